"""Offsets of members in the structs of the data plane, in bytes.

Generated from BTF by tools/abi.py (make abi); don't edit.
"""

from enum import IntEnum


class BlockOffset(IntEnum):
    """Members of ``struct block``."""

    TUNNEL = 0


class Ct4KeyOffset(IntEnum):
    """Members of ``struct ct4_key``."""

    ADDRESS = 0
    PORT = 8
    PROTOCOL = 12


class Ct6KeyOffset(IntEnum):
    """Members of ``struct ct6_key``."""

    ADDRESS = 0
    PORT = 32
    PROTOCOL = 36


class CtEntryOffset(IntEnum):
    """Members of ``struct ct_entry``."""

    GENERATION = 0
    POLICY_SLOT = 4
    BUCKET = 8
    IDENTITY = 16
    LAST_SEEN = 24
    STAMP = 28
    COOKIE = 32
    ENDPOINT = 36
    INITIATOR = 38
    STATE = 39
    REASON = 40
    DIRECTION = 41
    IS_OUTGOING = 42
    BORN = 44
    OWNER = 48
    SIDE = 56


class CtSideOffset(IntEnum):
    """Members of ``struct ct_side``."""

    PACKETS = 0
    BYTES = 8
    SOURCE_IFINDEX = 16
    IFINDEX = 20
    TUNNEL = 24
    TRACED = 28
    MAC = 32
    TCP_FLAGS = 38
    ACKNOWLEDGED = 40
    FIN = 44


class EndpointOffset(IntEnum):
    """Members of ``struct endpoint``."""

    IFINDEX = 0
    IDENTITY = 4
    ID = 8
    POLICY_SLOT = 10
    MAC = 12
    FLAGS = 18


class EndpointKeyOffset(IntEnum):
    """Members of ``struct endpoint_key``."""

    ADDRESS = 0


class EventOffset(IntEnum):
    """Members of ``struct event``."""

    TIME_NS = 0
    KIND = 8
    REASON = 9
    DIRECTION = 10
    AUDITED = 11
    FAMILY = 12
    PROTOCOL = 13
    TCP_FLAGS = 14
    HOOK = 15
    LENGTH = 16
    IFINDEX = 20
    IDENTITY = 24
    ENDPOINT = 32
    PORT = 36
    COOKIE = 40
    SOURCE = 44
    DESTINATION = 60
    IS_REPLY = 76


class EventBudgetOffset(IntEnum):
    """Members of ``struct event_budget``."""

    REFILLED = 0
    CREDIT = 4


class FlowAccountOffset(IntEnum):
    """Members of ``struct flow_account``."""

    CREATED = 0
    REMOVED = 8
    CAPACITY = 16
    SHARE = 24
    SWEEP = 28
    LAST_SWEPT = 32
    LEASE = 36


class FlowShareOffset(IntEnum):
    """Members of ``struct flow_share``."""

    CREATED = 0
    REMOVED = 4


class FragmentKeyOffset(IntEnum):
    """Members of ``struct fragment_key``."""

    SOURCE = 0
    DESTINATION = 16
    ID = 32
    IFINDEX = 36
    PROTOCOL = 40


class FragmentPortsOffset(IntEnum):
    """Members of ``struct fragment_ports``."""

    SOURCE = 0
    DESTINATION = 2
    BYTES = 4


class HostAddressKeyOffset(IntEnum):
    """Members of ``struct host_address_key``."""

    ADDRESS = 0


class IpcacheEntryOffset(IntEnum):
    """Members of ``struct ipcache_entry``."""

    IDENTITY = 0
    TUNNEL = 4
    FLAGS = 8
    OWNER = 10


class IpcacheKeyOffset(IntEnum):
    """Members of ``struct ipcache_key``."""

    PREFIXLEN = 0
    ADDRESS = 4


class MetricOffset(IntEnum):
    """Members of ``struct metric``."""

    PACKETS = 0
    BYTES = 8


class NatEntryOffset(IntEnum):
    """Members of ``struct nat_entry``."""

    TAG = 0
    CHECKED = 4
    NUMBER = 8
    ENDPOINT = 12
    PORT = 14
    ADDRESS = 16
    IS_NODE = 32


class NatKeyOffset(IntEnum):
    """Members of ``struct nat_key``."""

    REMOTE = 0
    LOCAL = 16
    REMOTE_PORT = 32
    LOCAL_PORT = 34
    PROTOCOL = 36
    IS_REPLY = 37


class NatPortsOffset(IntEnum):
    """Members of ``struct nat_ports``."""

    FIRST = 0
    LAST = 2
    LOWEST = 4
    HIGHEST = 6


class NatTurnOffset(IntEnum):
    """Members of ``struct nat_turn``."""

    NUMBER = 0
    ENDPOINT = 4


class NatUsageOffset(IntEnum):
    """Members of ``struct nat_usage``."""

    HEAD = 0
    TAIL = 4


class PacketOffset(IntEnum):
    """Members of ``struct packet``."""

    SOURCE = 0
    DESTINATION = 16
    SOURCE_PORT = 32
    DESTINATION_PORT = 34
    OFFSET = 36
    QUOTED = 38
    FAMILY = 40
    PROTOCOL = 41
    TCP_FLAGS = 42
    ICMP_TYPE = 43
    IS_KNOWN = 44
    IS_ERROR = 45
    HOOK = 46
    FRAGMENT = 47
    FRAGMENT_ID = 48
    IDENTITY = 52
    TUNNEL = 56
    ACKNOWLEDGED = 60


class PolicyEntryOffset(IntEnum):
    """Members of ``struct policy_entry``."""

    PRECEDENCE = 0
    COOKIE = 4
    DENY = 8
    AUDIT = 9
    IS_MEMBER = 10


class PolicyKeyOffset(IntEnum):
    """Members of ``struct policy_key``."""

    SLOT = 0
    SET = 2
    DIRECTION = 3
    IDENTITY = 4
    PORT = 8
    PROTOCOL = 10
    SHAPE = 11


class PolicySlotOffset(IntEnum):
    """Members of ``struct policy_slot``."""

    CURRENT = 0
    NEXT = 8
    EPOCH = 16
    IDENTITY = 20


class PolicyVersionOffset(IntEnum):
    """Members of ``struct policy_version``."""

    REVISION = 0
