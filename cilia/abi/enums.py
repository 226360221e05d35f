"""Closed choices of the data plane. Generated from BTF by tools/abi.py (make abi); don't edit."""

from enum import IntEnum


class ChangePart(IntEnum):
    """``enum change_part``."""

    UNDER_WAY = 15
    DONE = 16


class CtState(IntEnum):
    """``enum ct_state``."""

    DENIED = 1
    MIDWAY = 2
    RESET = 4
    ENDING = 8
    ENDED_0 = 16
    ENDED_1 = 32
    ENDED = 48
    CARE = 13


class DropReason(IntEnum):
    """``enum drop_reason``."""

    INVALID_MAC = 130
    INVALID_SOURCE = 132
    POLICY_DENIED = 133
    INVALID_PACKET = 134
    CT_INVALID = 135
    UNKNOWN_L3 = 139
    UNKNOWN_L4 = 142
    UNKNOWN_ICMP_TYPE = 144
    NO_TUNNEL_KEY = 147
    UNKNOWN_TARGET = 150
    NO_ENDPOINT = 152
    CT_CREATE = 155
    INVALID_EXTENSION = 156
    FRAGMENT = 157
    NO_OVERLAY = 160
    TOO_BIG = 161
    NAT_NO_PORT = 167
    ENCAP_PROHIBITED = 170
    INVALID_IDENTITY = 171
    UNKNOWN_SENDER = 172
    FRAGMENT_UNKNOWN = 175
    DENIED_BY_RULE = 181
    POLICY_NOT_READY = 203
    CT_MIDWAY = 240
    CT_REUSED = 241
    INVALID_FRAGMENT = 242
    INVALID_ADDRESS = 243
    OWN_SOURCE = 244
    MARTIAN = 245
    CT_QUOTA = 246
    INVALID_OFFLOAD = 247
    NAT_QUOTA = 250
    NAT_NO_ROOM = 251


class EndpointFlag(IntEnum):
    """``enum endpoint_flag``."""

    AUDIT = 1


class EventKind(IntEnum):
    """``enum event_kind``."""

    VERDICT = 1
    DROP = 2
    TRACE = 3


class FlowShareLimit(IntEnum):
    """``enum flow_share_limit``."""

    ENDPOINTS = 4096
    SHARES = 16384


class FragmentKind(IntEnum):
    """``enum fragment_kind``."""

    NONE = 0
    FIRST = 1
    LATER = 2


class GatewayFamily(IntEnum):
    """``enum gateway_family``."""

    IPV4 = 0
    IPV6 = 1
    GATEWAYS = 2


class Hook(IntEnum):
    """``enum hook``."""

    FROM_POD = 0
    TO_POD = 1
    FROM_OVERLAY = 2
    TO_OVERLAY = 3
    FROM_UPLINK = 4
    TO_UPLINK = 5
    HOOKS = 8


class HostAddressKind(IntEnum):
    """``enum host_address_kind``."""

    OWN = 1
    BROADCAST = 2


class Identity(IntEnum):
    """``enum identity``."""

    UNKNOWN = 0
    HOST = 1
    WORLD = 2
    REMOTE_NODE = 6
    ALLOCATED = 256


class IdentityScope(IntEnum):
    """``enum identity_scope``."""

    PREFIX = 1
    NODE = 2
    SHIFT = 24


class IpcacheFlag(IntEnum):
    """``enum ipcache_flag``."""

    ROUTED = 1


class Outcome(IntEnum):
    """``enum outcome``."""

    FORWARDED = 0
    LOST_EVENT = 1
    LIMITED_EVENT = 2
    AUDITED = 3


class PolicyDirection(IntEnum):
    """``enum policy_direction``."""

    INGRESS = 0
    EGRESS = 1


class PolicyLimit(IntEnum):
    """``enum policy_limit``."""

    SLOTS = 4096
    ENTRIES = 262144
    ADDRESS_BUCKETS = 65536


class PolicyPrecedence(IntEnum):
    """``enum policy_precedence``."""

    AUDITED_DEFAULT = 4294967040
    ALLOW = 4294967041
    AUDITED_DENY = 4294967294
    DENY = 4294967295


class PolicyShape(IntEnum):
    """``enum policy_shape``."""

    ANY = 0
    PROTOCOL = 1
    PORT = 17
    SHAPES = 18


class TcpFlag(IntEnum):
    """``enum tcp_flag``."""

    FIN = 1
    SYN = 2
    RST = 4
    ACK = 16
