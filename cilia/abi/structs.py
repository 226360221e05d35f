"""Keys, values and events of the data plane.

Generated from BTF by tools/abi.py (make abi); don't edit.

Integers are in host order, also where C keeps them in network order; ``unpack`` takes exactly
one struct, ``unpack_each`` any number of them in a row.
"""

from collections.abc import Iterator
from socket import htonl, htons, ntohl, ntohs
from struct import Struct
from typing import Any, Final, NamedTuple, Self

from cilia.abi.codec import Buffer, Codec, exact, fit

_BLOCK = Struct("=I")


class Block(NamedTuple):
    """``struct block``, 4 bytes."""

    tunnel: int  # __be32

    def pack(self) -> bytes:
        return _BLOCK.pack(htonl(self.tunnel))

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(ntohl(v[0]))

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_BLOCK.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _BLOCK.iter_unpack(data))


BLOCK: Final = Codec("struct block", 4, Block.pack, Block.unpack)


_CT4_KEY = Struct("=IIHHB3x")


class Ct4Key(NamedTuple):
    """``struct ct4_key``, 16 bytes."""

    address: tuple[int, int]  # __be32[2]
    port: tuple[int, int]  # __be16[2]
    protocol: int  # __u8

    def pack(self) -> bytes:
        return _CT4_KEY.pack(
            htonl(self.address[0]), htonl(self.address[1]), htons(self.port[0]), htons(self.port[1]), self.protocol
        )

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls((ntohl(v[0]), ntohl(v[1])), (ntohs(v[2]), ntohs(v[3])), v[4])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_CT4_KEY.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _CT4_KEY.iter_unpack(data))


CT4_KEY: Final = Codec("struct ct4_key", 16, Ct4Key.pack, Ct4Key.unpack)


_CT6_KEY = Struct("=16s16sHHB3x")


class Ct6Key(NamedTuple):
    """``struct ct6_key``, 40 bytes."""

    address: tuple[bytes, bytes]  # struct address[2]
    port: tuple[int, int]  # __be16[2]
    protocol: int  # __u8

    def pack(self) -> bytes:
        return _CT6_KEY.pack(
            exact(self.address[0], 16),
            exact(self.address[1], 16),
            htons(self.port[0]),
            htons(self.port[1]),
            self.protocol,
        )

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls((v[0], v[1]), (ntohs(v[2]), ntohs(v[3])), v[4])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_CT6_KEY.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _CT6_KEY.iter_unpack(data))


CT6_KEY: Final = Codec("struct ct6_key", 40, Ct6Key.pack, Ct6Key.unpack)


_CT_SIDE = Struct("=QQIIII6sB1xII")


class CtSide(NamedTuple):
    """``struct ct_side``, 48 bytes."""

    packets: int  # __u64
    bytes_: int  # __u64
    source_ifindex: int  # __u32
    ifindex: int  # __u32
    tunnel: int  # __be32
    traced: int  # __u32
    mac: bytes  # __u8[6]
    tcp_flags: int  # __u8
    acknowledged: int  # __u32
    fin: int  # __u32

    def pack(self) -> bytes:
        return _CT_SIDE.pack(
            self.packets,
            self.bytes_,
            self.source_ifindex,
            self.ifindex,
            htonl(self.tunnel),
            self.traced,
            exact(self.mac, 6),
            self.tcp_flags,
            self.acknowledged,
            self.fin,
        )

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0], v[1], v[2], v[3], ntohl(v[4]), v[5], v[6], v[7], v[8], v[9])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_CT_SIDE.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _CT_SIDE.iter_unpack(data))


CT_SIDE: Final = Codec("struct ct_side", 48, CtSide.pack, CtSide.unpack)


_CT_ENTRY = Struct("=IHHIIIIIIIHBBBBB1xIHH4xQQIIII6sB1xIIQQIIII6sB1xII")


class CtEntry(NamedTuple):
    """``struct ct_entry``, 152 bytes."""

    generation: int  # __u32
    policy_slot: tuple[int, int]  # __u16[2]
    bucket: tuple[int, int]  # __u32[2]
    identity: tuple[int, int]  # __u32[2]
    last_seen: int  # __u32
    stamp: int  # __u32
    cookie: int  # __u32
    endpoint: int  # __u16
    initiator: int  # __u8
    state: int  # __u8
    reason: int  # __u8
    direction: int  # __u8
    is_outgoing: int  # __u8
    born: int  # __u32
    owner: tuple[int, int]  # __u16[2]
    side: tuple[CtSide, CtSide]  # struct ct_side[2]

    def pack(self) -> bytes:
        return _CT_ENTRY.pack(
            self.generation,
            self.policy_slot[0],
            self.policy_slot[1],
            self.bucket[0],
            self.bucket[1],
            self.identity[0],
            self.identity[1],
            self.last_seen,
            self.stamp,
            self.cookie,
            self.endpoint,
            self.initiator,
            self.state,
            self.reason,
            self.direction,
            self.is_outgoing,
            self.born,
            self.owner[0],
            self.owner[1],
            self.side[0].packets,
            self.side[0].bytes_,
            self.side[0].source_ifindex,
            self.side[0].ifindex,
            htonl(self.side[0].tunnel),
            self.side[0].traced,
            exact(self.side[0].mac, 6),
            self.side[0].tcp_flags,
            self.side[0].acknowledged,
            self.side[0].fin,
            self.side[1].packets,
            self.side[1].bytes_,
            self.side[1].source_ifindex,
            self.side[1].ifindex,
            htonl(self.side[1].tunnel),
            self.side[1].traced,
            exact(self.side[1].mac, 6),
            self.side[1].tcp_flags,
            self.side[1].acknowledged,
            self.side[1].fin,
        )

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(
            v[0],
            (v[1], v[2]),
            (v[3], v[4]),
            (v[5], v[6]),
            v[7],
            v[8],
            v[9],
            v[10],
            v[11],
            v[12],
            v[13],
            v[14],
            v[15],
            v[16],
            (v[17], v[18]),
            (
                CtSide(v[19], v[20], v[21], v[22], ntohl(v[23]), v[24], v[25], v[26], v[27], v[28]),
                CtSide(v[29], v[30], v[31], v[32], ntohl(v[33]), v[34], v[35], v[36], v[37], v[38]),
            ),
        )

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_CT_ENTRY.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _CT_ENTRY.iter_unpack(data))


CT_ENTRY: Final = Codec("struct ct_entry", 152, CtEntry.pack, CtEntry.unpack)


_ENDPOINT = Struct("=IIHH6sB1x")


class Endpoint(NamedTuple):
    """``struct endpoint``, 20 bytes."""

    ifindex: int  # __u32
    identity: int  # __u32
    id: int  # __u16
    policy_slot: int  # __u16
    mac: bytes  # __u8[6]
    flags: int  # __u8

    def pack(self) -> bytes:
        return _ENDPOINT.pack(self.ifindex, self.identity, self.id, self.policy_slot, exact(self.mac, 6), self.flags)

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0], v[1], v[2], v[3], v[4], v[5])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_ENDPOINT.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _ENDPOINT.iter_unpack(data))


ENDPOINT: Final = Codec("struct endpoint", 20, Endpoint.pack, Endpoint.unpack)


_ENDPOINT_KEY = Struct("=16s")


class EndpointKey(NamedTuple):
    """``struct endpoint_key``, 16 bytes."""

    address: bytes  # struct address

    def pack(self) -> bytes:
        return _ENDPOINT_KEY.pack(exact(self.address, 16))

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_ENDPOINT_KEY.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _ENDPOINT_KEY.iter_unpack(data))


ENDPOINT_KEY: Final = Codec("struct endpoint_key", 16, EndpointKey.pack, EndpointKey.unpack)


_EVENT = Struct("=QBBBBBBBBIIIIHHHHI16s16sB3x")


class Event(NamedTuple):
    """``struct event``, 80 bytes."""

    time_ns: int  # __u64
    kind: int  # __u8
    reason: int  # __u8
    direction: int  # __u8
    audited: int  # __u8
    family: int  # __u8
    protocol: int  # __u8
    tcp_flags: int  # __u8
    hook: int  # __u8
    length: int  # __u32
    ifindex: int  # __u32
    identity: tuple[int, int]  # __u32[2]
    endpoint: tuple[int, int]  # __u16[2]
    port: tuple[int, int]  # __be16[2]
    cookie: int  # __u32
    source: bytes  # struct address
    destination: bytes  # struct address
    is_reply: int  # __u8

    def pack(self) -> bytes:
        return _EVENT.pack(
            self.time_ns,
            self.kind,
            self.reason,
            self.direction,
            self.audited,
            self.family,
            self.protocol,
            self.tcp_flags,
            self.hook,
            self.length,
            self.ifindex,
            self.identity[0],
            self.identity[1],
            self.endpoint[0],
            self.endpoint[1],
            htons(self.port[0]),
            htons(self.port[1]),
            self.cookie,
            exact(self.source, 16),
            exact(self.destination, 16),
            self.is_reply,
        )

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(
            v[0],
            v[1],
            v[2],
            v[3],
            v[4],
            v[5],
            v[6],
            v[7],
            v[8],
            v[9],
            v[10],
            (v[11], v[12]),
            (v[13], v[14]),
            (ntohs(v[15]), ntohs(v[16])),
            v[17],
            v[18],
            v[19],
            v[20],
        )

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_EVENT.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _EVENT.iter_unpack(data))


EVENT: Final = Codec("struct event", 80, Event.pack, Event.unpack)


_EVENT_BUDGET = Struct("=II")


class EventBudget(NamedTuple):
    """``struct event_budget``, 8 bytes."""

    refilled: int  # __u32
    credit: int  # __u32

    def pack(self) -> bytes:
        return _EVENT_BUDGET.pack(self.refilled, self.credit)

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0], v[1])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_EVENT_BUDGET.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _EVENT_BUDGET.iter_unpack(data))


EVENT_BUDGET: Final = Codec("struct event_budget", 8, EventBudget.pack, EventBudget.unpack)


_FLOW_ACCOUNT = Struct("=IIIIIIIIII")


class FlowAccount(NamedTuple):
    """``struct flow_account``, 40 bytes."""

    created: tuple[int, int]  # __u32[2]
    removed: tuple[int, int]  # __u32[2]
    capacity: tuple[int, int]  # __u32[2]
    share: int  # __u32
    sweep: int  # __u32
    last_swept: int  # __u32
    lease: int  # __u32

    def pack(self) -> bytes:
        return _FLOW_ACCOUNT.pack(
            self.created[0],
            self.created[1],
            self.removed[0],
            self.removed[1],
            self.capacity[0],
            self.capacity[1],
            self.share,
            self.sweep,
            self.last_swept,
            self.lease,
        )

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls((v[0], v[1]), (v[2], v[3]), (v[4], v[5]), v[6], v[7], v[8], v[9])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_FLOW_ACCOUNT.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _FLOW_ACCOUNT.iter_unpack(data))


FLOW_ACCOUNT: Final = Codec("struct flow_account", 40, FlowAccount.pack, FlowAccount.unpack)


_FLOW_SHARE = Struct("=II")


class FlowShare(NamedTuple):
    """``struct flow_share``, 8 bytes."""

    created: int  # __u32
    removed: int  # __u32

    def pack(self) -> bytes:
        return _FLOW_SHARE.pack(self.created, self.removed)

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0], v[1])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_FLOW_SHARE.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _FLOW_SHARE.iter_unpack(data))


FLOW_SHARE: Final = Codec("struct flow_share", 8, FlowShare.pack, FlowShare.unpack)


_FRAGMENT_KEY = Struct("=16s16sIIB3x")


class FragmentKey(NamedTuple):
    """``struct fragment_key``, 44 bytes."""

    source: bytes  # struct address
    destination: bytes  # struct address
    id: int  # __be32
    ifindex: int  # __u32
    protocol: int  # __u8

    def pack(self) -> bytes:
        return _FRAGMENT_KEY.pack(
            exact(self.source, 16), exact(self.destination, 16), htonl(self.id), self.ifindex, self.protocol
        )

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0], v[1], ntohl(v[2]), v[3], v[4])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_FRAGMENT_KEY.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _FRAGMENT_KEY.iter_unpack(data))


FRAGMENT_KEY: Final = Codec("struct fragment_key", 44, FragmentKey.pack, FragmentKey.unpack)


_FRAGMENT_PORTS = Struct("=HHH2x")


class FragmentPorts(NamedTuple):
    """``struct fragment_ports``, 8 bytes."""

    source: int  # __be16
    destination: int  # __be16
    bytes_: int  # __u16

    def pack(self) -> bytes:
        return _FRAGMENT_PORTS.pack(htons(self.source), htons(self.destination), self.bytes_)

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(ntohs(v[0]), ntohs(v[1]), v[2])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_FRAGMENT_PORTS.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _FRAGMENT_PORTS.iter_unpack(data))


FRAGMENT_PORTS: Final = Codec("struct fragment_ports", 8, FragmentPorts.pack, FragmentPorts.unpack)


_HOST_ADDRESS_KEY = Struct("=16s")


class HostAddressKey(NamedTuple):
    """``struct host_address_key``, 16 bytes."""

    address: bytes  # struct address

    def pack(self) -> bytes:
        return _HOST_ADDRESS_KEY.pack(exact(self.address, 16))

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_HOST_ADDRESS_KEY.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _HOST_ADDRESS_KEY.iter_unpack(data))


HOST_ADDRESS_KEY: Final = Codec("struct host_address_key", 16, HostAddressKey.pack, HostAddressKey.unpack)


_IPCACHE_ENTRY = Struct("=IIHH")


class IpcacheEntry(NamedTuple):
    """``struct ipcache_entry``, 12 bytes."""

    identity: int  # __u32
    tunnel: int  # __be32
    flags: int  # __u16
    owner: int  # __u16

    def pack(self) -> bytes:
        return _IPCACHE_ENTRY.pack(self.identity, htonl(self.tunnel), self.flags, self.owner)

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0], ntohl(v[1]), v[2], v[3])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_IPCACHE_ENTRY.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _IPCACHE_ENTRY.iter_unpack(data))


IPCACHE_ENTRY: Final = Codec("struct ipcache_entry", 12, IpcacheEntry.pack, IpcacheEntry.unpack)


_IPCACHE_KEY = Struct("=I16s")


class IpcacheKey(NamedTuple):
    """``struct ipcache_key``, 20 bytes."""

    prefixlen: int  # __u32
    address: bytes  # struct address

    def pack(self) -> bytes:
        return _IPCACHE_KEY.pack(self.prefixlen, exact(self.address, 16))

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0], v[1])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_IPCACHE_KEY.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _IPCACHE_KEY.iter_unpack(data))


IPCACHE_KEY: Final = Codec("struct ipcache_key", 20, IpcacheKey.pack, IpcacheKey.unpack)


_METRIC = Struct("=QQ")


class Metric(NamedTuple):
    """``struct metric``, 16 bytes."""

    packets: int  # __u64
    bytes_: int  # __u64

    def pack(self) -> bytes:
        return _METRIC.pack(self.packets, self.bytes_)

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0], v[1])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_METRIC.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _METRIC.iter_unpack(data))


METRIC: Final = Codec("struct metric", 16, Metric.pack, Metric.unpack)


_NAT_ENTRY = Struct("=IIIHH16sB3x")


class NatEntry(NamedTuple):
    """``struct nat_entry``, 36 bytes."""

    tag: int  # __u32
    checked: int  # __u32
    number: int  # __u32
    endpoint: int  # __u16
    port: int  # __be16
    address: bytes  # struct address
    is_node: int  # __u8

    def pack(self) -> bytes:
        return _NAT_ENTRY.pack(
            self.tag, self.checked, self.number, self.endpoint, htons(self.port), exact(self.address, 16), self.is_node
        )

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0], v[1], v[2], v[3], ntohs(v[4]), v[5], v[6])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_NAT_ENTRY.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _NAT_ENTRY.iter_unpack(data))


NAT_ENTRY: Final = Codec("struct nat_entry", 36, NatEntry.pack, NatEntry.unpack)


_NAT_KEY = Struct("=16s16sHHBB2x")


class NatKey(NamedTuple):
    """``struct nat_key``, 40 bytes."""

    remote: bytes  # struct address
    local: bytes  # struct address
    remote_port: int  # __be16
    local_port: int  # __be16
    protocol: int  # __u8
    is_reply: int  # __u8

    def pack(self) -> bytes:
        return _NAT_KEY.pack(
            exact(self.remote, 16),
            exact(self.local, 16),
            htons(self.remote_port),
            htons(self.local_port),
            self.protocol,
            self.is_reply,
        )

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0], v[1], ntohs(v[2]), ntohs(v[3]), v[4], v[5])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_NAT_KEY.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _NAT_KEY.iter_unpack(data))


NAT_KEY: Final = Codec("struct nat_key", 40, NatKey.pack, NatKey.unpack)


_NAT_PORTS = Struct("=HHHH")


class NatPorts(NamedTuple):
    """``struct nat_ports``, 8 bytes."""

    first: int  # __u16
    last: int  # __u16
    lowest: int  # __u16
    highest: int  # __u16

    def pack(self) -> bytes:
        return _NAT_PORTS.pack(self.first, self.last, self.lowest, self.highest)

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0], v[1], v[2], v[3])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_NAT_PORTS.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _NAT_PORTS.iter_unpack(data))


NAT_PORTS: Final = Codec("struct nat_ports", 8, NatPorts.pack, NatPorts.unpack)


_NAT_TURN = Struct("=IH2x")


class NatTurn(NamedTuple):
    """``struct nat_turn``, 8 bytes."""

    number: int  # __u32
    endpoint: int  # __u16

    def pack(self) -> bytes:
        return _NAT_TURN.pack(self.number, self.endpoint)

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0], v[1])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_NAT_TURN.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _NAT_TURN.iter_unpack(data))


NAT_TURN: Final = Codec("struct nat_turn", 8, NatTurn.pack, NatTurn.unpack)


_NAT_USAGE = Struct("=II")


class NatUsage(NamedTuple):
    """``struct nat_usage``, 8 bytes."""

    head: int  # __u32
    tail: int  # __u32

    def pack(self) -> bytes:
        return _NAT_USAGE.pack(self.head, self.tail)

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0], v[1])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_NAT_USAGE.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _NAT_USAGE.iter_unpack(data))


NAT_USAGE: Final = Codec("struct nat_usage", 8, NatUsage.pack, NatUsage.unpack)


_PACKET = Struct("=16s16sHHHHBBBBBBBBIIII")


class Packet(NamedTuple):
    """``struct packet``, 64 bytes."""

    source: bytes  # struct address
    destination: bytes  # struct address
    source_port: int  # __be16
    destination_port: int  # __be16
    offset: int  # __u16
    quoted: int  # __u16
    family: int  # __u8
    protocol: int  # __u8
    tcp_flags: int  # __u8
    icmp_type: int  # __u8
    is_known: int  # __u8
    is_error: int  # __u8
    hook: int  # __u8
    fragment: int  # __u8
    fragment_id: int  # __be32
    identity: int  # __u32
    tunnel: int  # __be32
    acknowledged: int  # __be32

    def pack(self) -> bytes:
        return _PACKET.pack(
            exact(self.source, 16),
            exact(self.destination, 16),
            htons(self.source_port),
            htons(self.destination_port),
            self.offset,
            self.quoted,
            self.family,
            self.protocol,
            self.tcp_flags,
            self.icmp_type,
            self.is_known,
            self.is_error,
            self.hook,
            self.fragment,
            htonl(self.fragment_id),
            self.identity,
            htonl(self.tunnel),
            htonl(self.acknowledged),
        )

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(
            v[0],
            v[1],
            ntohs(v[2]),
            ntohs(v[3]),
            v[4],
            v[5],
            v[6],
            v[7],
            v[8],
            v[9],
            v[10],
            v[11],
            v[12],
            v[13],
            ntohl(v[14]),
            v[15],
            ntohl(v[16]),
            ntohl(v[17]),
        )

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_PACKET.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _PACKET.iter_unpack(data))


PACKET: Final = Codec("struct packet", 64, Packet.pack, Packet.unpack)


_POLICY_ENTRY = Struct("=IIBBB1x")


class PolicyEntry(NamedTuple):
    """``struct policy_entry``, 12 bytes."""

    precedence: int  # __u32
    cookie: int  # __u32
    deny: int  # __u8
    audit: int  # __u8
    is_member: int  # __u8

    def pack(self) -> bytes:
        return _POLICY_ENTRY.pack(self.precedence, self.cookie, self.deny, self.audit, self.is_member)

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0], v[1], v[2], v[3], v[4])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_POLICY_ENTRY.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _POLICY_ENTRY.iter_unpack(data))


POLICY_ENTRY: Final = Codec("struct policy_entry", 12, PolicyEntry.pack, PolicyEntry.unpack)


_POLICY_KEY = Struct("=HBBIHBB")


class PolicyKey(NamedTuple):
    """``struct policy_key``, 12 bytes."""

    slot: int  # __u16
    set: int  # __u8
    direction: int  # __u8
    identity: int  # __u32
    port: int  # __be16
    protocol: int  # __u8
    shape: int  # __u8

    def pack(self) -> bytes:
        return _POLICY_KEY.pack(
            self.slot, self.set, self.direction, self.identity, htons(self.port), self.protocol, self.shape
        )

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0], v[1], v[2], v[3], ntohs(v[4]), v[5], v[6])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_POLICY_KEY.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _POLICY_KEY.iter_unpack(data))


POLICY_KEY: Final = Codec("struct policy_key", 12, PolicyKey.pack, PolicyKey.unpack)


_POLICY_VERSION = Struct("=II")


class PolicyVersion(NamedTuple):
    """``struct policy_version``, 8 bytes."""

    revision: int  # __u32
    set: int  # __u32 : 1
    audit: int  # __u32 : 1
    named_only: int  # __u32 : 2
    shapes: int  # __u32 : 18

    def pack(self) -> bytes:
        return _POLICY_VERSION.pack(
            self.revision,
            fit(self.set, 1) | fit(self.audit, 1) << 1 | fit(self.named_only, 2) << 2 | fit(self.shapes, 18) << 14,
        )

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0], v[1] & 0x1, v[1] >> 1 & 0x1, v[1] >> 2 & 0x3, v[1] >> 14 & 0x3FFFF)

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_POLICY_VERSION.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _POLICY_VERSION.iter_unpack(data))


POLICY_VERSION: Final = Codec("struct policy_version", 8, PolicyVersion.pack, PolicyVersion.unpack)


_POLICY_SLOT = Struct("=IIIIII")


class PolicySlot(NamedTuple):
    """``struct policy_slot``, 24 bytes."""

    current: PolicyVersion  # struct policy_version
    next: PolicyVersion  # struct policy_version
    epoch: int  # __u32
    identity: int  # __u32

    def pack(self) -> bytes:
        return _POLICY_SLOT.pack(
            self.current.revision,
            fit(self.current.set, 1)
            | fit(self.current.audit, 1) << 1
            | fit(self.current.named_only, 2) << 2
            | fit(self.current.shapes, 18) << 14,
            self.next.revision,
            fit(self.next.set, 1)
            | fit(self.next.audit, 1) << 1
            | fit(self.next.named_only, 2) << 2
            | fit(self.next.shapes, 18) << 14,
            self.epoch,
            self.identity,
        )

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(
            PolicyVersion(v[0], v[1] & 0x1, v[1] >> 1 & 0x1, v[1] >> 2 & 0x3, v[1] >> 14 & 0x3FFFF),
            PolicyVersion(v[2], v[3] & 0x1, v[3] >> 1 & 0x1, v[3] >> 2 & 0x3, v[3] >> 14 & 0x3FFFF),
            v[4],
            v[5],
        )

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_POLICY_SLOT.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _POLICY_SLOT.iter_unpack(data))


POLICY_SLOT: Final = Codec("struct policy_slot", 24, PolicySlot.pack, PolicySlot.unpack)
