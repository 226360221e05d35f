"""Keys, values and events of the data plane. Generated from BTF by tools/abi.py (make abi); don't edit.

Integers are in host order, also where C keeps them in network order; ``unpack`` takes exactly one struct,
``unpack_each`` any number of them in a row.
"""

from collections.abc import Iterator
from socket import htonl, htons, ntohl, ntohs
from struct import Struct
from typing import Any, Final, NamedTuple, Self

from cilia.abi.codec import Buffer, Codec, exact, fit


_CT_SIDE = Struct("=QQIII6sB5x")


class CtSide(NamedTuple):
    """``struct ct_side``, 40 bytes."""

    packets: int  # __u64
    bytes_: int  # __u64
    source_ifindex: int  # __u32
    ifindex: int  # __u32
    tunnel: int  # __be32
    mac: bytes  # __u8[6]
    tcp_flags: int  # __u8

    def pack(self) -> bytes:
        return _CT_SIDE.pack(
            self.packets,
            self.bytes_,
            self.source_ifindex,
            self.ifindex,
            htonl(self.tunnel),
            exact(self.mac, 6),
            self.tcp_flags,
        )

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0], v[1], v[2], v[3], ntohl(v[4]), v[5], v[6])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_CT_SIDE.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _CT_SIDE.iter_unpack(data))


CT_SIDE: Final = Codec("struct ct_side", 40, CtSide.pack, CtSide.unpack)


_CT_ENTRY = Struct("=IHHIIIIIB3xQQIII6sB5xQQIII6sB5x")


class CtEntry(NamedTuple):
    """``struct ct_entry``, 112 bytes."""

    generation: int  # __u32
    subject: tuple[int, int]  # __u16[2]
    bucket: tuple[int, int]  # __u32[2]
    identity: tuple[int, int]  # __u32[2]
    last_seen: int  # __u32
    initiator: int  # __u8
    side: tuple[CtSide, CtSide]  # struct ct_side[2]

    def pack(self) -> bytes:
        return _CT_ENTRY.pack(
            self.generation,
            self.subject[0],
            self.subject[1],
            self.bucket[0],
            self.bucket[1],
            self.identity[0],
            self.identity[1],
            self.last_seen,
            self.initiator,
            self.side[0].packets,
            self.side[0].bytes_,
            self.side[0].source_ifindex,
            self.side[0].ifindex,
            htonl(self.side[0].tunnel),
            exact(self.side[0].mac, 6),
            self.side[0].tcp_flags,
            self.side[1].packets,
            self.side[1].bytes_,
            self.side[1].source_ifindex,
            self.side[1].ifindex,
            htonl(self.side[1].tunnel),
            exact(self.side[1].mac, 6),
            self.side[1].tcp_flags,
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
            (
                CtSide(v[9], v[10], v[11], v[12], ntohl(v[13]), v[14], v[15]),
                CtSide(v[16], v[17], v[18], v[19], ntohl(v[20]), v[21], v[22]),
            ),
        )

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_CT_ENTRY.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _CT_ENTRY.iter_unpack(data))


CT_ENTRY: Final = Codec("struct ct_entry", 112, CtEntry.pack, CtEntry.unpack)


_CT_KEY = Struct("=IIHHB3x")


class CtKey(NamedTuple):
    """``struct ct_key``, 16 bytes."""

    address: tuple[int, int]  # __be32[2]
    port: tuple[int, int]  # __be16[2]
    protocol: int  # __u8

    def pack(self) -> bytes:
        return _CT_KEY.pack(
            htonl(self.address[0]), htonl(self.address[1]), htons(self.port[0]), htons(self.port[1]), self.protocol
        )

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls((ntohl(v[0]), ntohl(v[1])), (ntohs(v[2]), ntohs(v[3])), v[4])

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_CT_KEY.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _CT_KEY.iter_unpack(data))


CT_KEY: Final = Codec("struct ct_key", 16, CtKey.pack, CtKey.unpack)


_ENDPOINT = Struct("=IIHH6s2x")


class Endpoint(NamedTuple):
    """``struct endpoint``, 20 bytes."""

    ifindex: int  # __u32
    identity: int  # __u32
    id: int  # __u16
    subject: int  # __u16
    mac: bytes  # __u8[6]

    def pack(self) -> bytes:
        return _ENDPOINT.pack(self.ifindex, self.identity, self.id, self.subject, exact(self.mac, 6))

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0], v[1], v[2], v[3], v[4])

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


_EVENT = Struct("=QBBBBBBBBIIIIHHHHI16s16s4x")


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
        )

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_EVENT.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _EVENT.iter_unpack(data))


EVENT: Final = Codec("struct event", 80, Event.pack, Event.unpack)


_IPCACHE_ENTRY = Struct("=II")


class IpcacheEntry(NamedTuple):
    """``struct ipcache_entry``, 8 bytes."""

    identity: int  # __u32
    tunnel: int  # __be32

    def pack(self) -> bytes:
        return _IPCACHE_ENTRY.pack(self.identity, htonl(self.tunnel))

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0], ntohl(v[1]))

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_IPCACHE_ENTRY.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _IPCACHE_ENTRY.iter_unpack(data))


IPCACHE_ENTRY: Final = Codec("struct ipcache_entry", 8, IpcacheEntry.pack, IpcacheEntry.unpack)


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


_POLICY_ENTRY = Struct("=IIBB2x")


class PolicyEntry(NamedTuple):
    """``struct policy_entry``, 12 bytes."""

    precedence: int  # __u32
    cookie: int  # __u32
    deny: int  # __u8
    audit: int  # __u8

    def pack(self) -> bytes:
        return _POLICY_ENTRY.pack(self.precedence, self.cookie, self.deny, self.audit)

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0], v[1], v[2], v[3])

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

    subject: int  # __u16
    set: int  # __u8
    direction: int  # __u8
    identity: int  # __u32
    port: int  # __be16
    protocol: int  # __u8
    shape: int  # __u8

    def pack(self) -> bytes:
        return _POLICY_KEY.pack(
            self.subject, self.set, self.direction, self.identity, htons(self.port), self.protocol, self.shape
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
    shapes: int  # __u32 : 18

    def pack(self) -> bytes:
        return _POLICY_VERSION.pack(
            self.revision, fit(self.set, 1) | fit(self.audit, 1) << 1 | fit(self.shapes, 18) << 14
        )

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(v[0], v[1] & 0x1, v[1] >> 1 & 0x1, v[1] >> 14 & 0x3FFFF)

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_POLICY_VERSION.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _POLICY_VERSION.iter_unpack(data))


POLICY_VERSION: Final = Codec("struct policy_version", 8, PolicyVersion.pack, PolicyVersion.unpack)


_SUBJECT = Struct("=IIIIII")


class Subject(NamedTuple):
    """``struct subject``, 24 bytes."""

    current: PolicyVersion  # struct policy_version
    next: PolicyVersion  # struct policy_version
    epoch: int  # __u32
    identity: int  # __u32

    def pack(self) -> bytes:
        return _SUBJECT.pack(
            self.current.revision,
            fit(self.current.set, 1) | fit(self.current.audit, 1) << 1 | fit(self.current.shapes, 18) << 14,
            self.next.revision,
            fit(self.next.set, 1) | fit(self.next.audit, 1) << 1 | fit(self.next.shapes, 18) << 14,
            self.epoch,
            self.identity,
        )

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls(
            PolicyVersion(v[0], v[1] & 0x1, v[1] >> 1 & 0x1, v[1] >> 14 & 0x3FFFF),
            PolicyVersion(v[2], v[3] & 0x1, v[3] >> 1 & 0x1, v[3] >> 14 & 0x3FFFF),
            v[4],
            v[5],
        )

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_SUBJECT.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _SUBJECT.iter_unpack(data))


SUBJECT: Final = Codec("struct subject", 24, Subject.pack, Subject.unpack)
