"""Traffic control, as far as the agent needs it: clsact on shared blocks, and one BPF filter for
each block.

A block's filter serves every device that is bound to it, so a pod costs one qdisc and no filter,
and one ``replace`` changes the program of all pods without a packet seeing none. Layouts are those
of linux/rtnetlink.h and linux/pkt_cls.h. Every call blocks on RTNL: for the worker thread only.
"""

import errno
import socket
import struct
import sys
from enum import IntEnum
from typing import Final, NamedTuple, Self

from services.agent.netlink.rtnetlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Request,
    RtNetlink,
    attribute,
    attributes,
)

TCMSG: Final = struct.Struct("=BxxxIIII")
RTM_NEWQDISC: Final = 36
RTM_DELQDISC: Final = 37
RTM_GETQDISC: Final = 38
RTM_NEWTFILTER: Final = 44
RTM_DELTFILTER: Final = 45
RTM_GETTFILTER: Final = 46
TCM_IFINDEX_MAGIC_BLOCK: Final = 0xFFFF_FFFF
TC_H_CLSACT: Final = 0xFFFF_FFF1
CLSACT_HANDLE: Final = 0xFFFF_0000
TCA_KIND, TCA_OPTIONS, TCA_INGRESS_BLOCK, TCA_EGRESS_BLOCK = 1, 2, 13, 14
TCA_BPF_FD, TCA_BPF_NAME, TCA_BPF_FLAGS, TCA_BPF_ID = 6, 7, 8, 11
TCA_BPF_FLAG_ACT_DIRECT: Final = 1
ETH_P_ALL: Final = 3
PRIORITY: Final = 1
INFO: Final = PRIORITY << 16 | socket.htons(ETH_P_ALL)
HANDLE: Final = 0xC111A
"""Handle of our filters: on a device that others use, theirs of the same priority stay."""


class Filter(NamedTuple):
    """A filter of a block."""

    kind: str
    info: int
    """Priority in the upper half, protocol in the lower."""
    handle: int
    program_id: int
    """0: it is no BPF filter."""

    @property
    def is_ours(self) -> bool:
        """Tell whether it stands where our filters do."""
        return (self.kind, self.info, self.handle) == ("bpf", INFO, HANDLE)

    def __str__(self) -> str:
        return f"a {self.kind} filter of priority {self.info >> 16} with program {self.program_id}"


class Side(IntEnum):
    """Sides of a device with a clsact qdisc; values of TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_*)."""

    INGRESS = 0xFFFF_FFF2
    EGRESS = 0xFFFF_FFF3


class TcBlocks(NamedTuple):
    """Numbers of the tc blocks that all pods' devices share."""

    ingress: int
    egress: int


class TrafficControl:
    """A netlink socket in the network namespace in which it was opened."""

    def __init__(self) -> None:
        self._netlink = RtNetlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the socket back."""
        self._netlink.close()

    def bind_to_blocks(self, ifindex: int, blocks: TcBlocks) -> None:
        """Give a device a clsact qdisc whose two sides are the shared blocks.

        Raises:
            OSError: EEXIST if it has one; ENODEV.
        """
        self._netlink.call(*bind_to_blocks(ifindex, blocks))

    def ensure_clsact(self, ifindex: int) -> None:
        """Give a device a clsact qdisc of its own unless it has one."""
        try:
            self._netlink.call(*_add_clsact(ifindex))
        except FileExistsError:
            return

    def replace_block_filter(self, block: int, program_fd: int, name: str) -> None:
        """Have ``program_fd`` run, direct-action, on every device bound to ``block``; each packet
        meets a program.

        Raises:
            OSError: ENOENT or EINVAL if no device is bound to the block.
        """
        self._replace_filter(TCM_IFINDEX_MAGIC_BLOCK, block, program_fd, name)

    def replace_filter(self, ifindex: int, side: Side, program_fd: int, name: str) -> None:
        """Have ``program_fd`` run, direct-action, on one side of a device with its own clsact."""
        self._replace_filter(ifindex, side, program_fd, name)

    def delete_filter(self, ifindex: int, side: Side) -> None:
        """Take our filter off one side of a device, if it is there; others' filters stay."""
        try:
            self._netlink.call(RTM_DELTFILTER, 0, _tcmsg(ifindex, HANDLE, side, INFO) + attribute(TCA_KIND, b"bpf\0"))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINVAL, errno.ENODEV):
                raise

    def bound_blocks(self) -> dict[int, tuple[int, int]]:
        """Return the devices with a clsact qdisc -> its ingress and egress block; 0: no block."""
        found = {}
        for payload in self._netlink.dump(RTM_GETQDISC, _tcmsg(0, 0, 0, 0)):
            ifindex, given = _device_of(payload), attributes(payload[TCMSG.size :])
            if given.get(TCA_KIND) == b"clsact\0":
                blocks = (given.get(kind, bytes(4)) for kind in (TCA_INGRESS_BLOCK, TCA_EGRESS_BLOCK))
                ingress, egress = (int.from_bytes(each[:4], sys.byteorder) for each in blocks)
                found[ifindex] = ingress, egress
        return found

    def delete_clsact(self, ifindex: int) -> None:
        """Take the clsact qdisc off a device, and with it its filters."""
        self._netlink.call(RTM_DELQDISC, 0, _tcmsg(ifindex, CLSACT_HANDLE, TC_H_CLSACT, 0))

    def block_filters(self, block: int) -> list[Filter]:
        """Return all filters of a block."""
        found = []
        for payload in self._netlink.dump(RTM_GETTFILTER, _tcmsg(TCM_IFINDEX_MAGIC_BLOCK, 0, block, 0)):
            _, _, handle, _, info = TCMSG.unpack_from(payload)
            given = attributes(payload[TCMSG.size :])
            options = attributes(given.get(TCA_OPTIONS, b""))
            if handle and options:
                program = int.from_bytes(options.get(TCA_BPF_ID, b""), sys.byteorder)
                found.append(Filter(given[TCA_KIND].rstrip(b"\0").decode(), info, handle, program))
        return found

    def delete_block_filter(self, block: int, found: Filter) -> None:
        """Remove a filter of a block, also a foreign one; one that is gone changes nothing."""
        message = _tcmsg(TCM_IFINDEX_MAGIC_BLOCK, found.handle, block, found.info)
        try:
            self._netlink.call(RTM_DELTFILTER, 0, message + attribute(TCA_KIND, found.kind.encode() + b"\0"))
        except FileNotFoundError:
            return

    def _replace_filter(self, ifindex: int, parent: int, program_fd: int, name: str) -> None:
        options = attribute(TCA_BPF_FD, struct.pack("=I", program_fd))
        options += attribute(TCA_BPF_NAME, name.encode() + b"\0")
        options += attribute(TCA_BPF_FLAGS, struct.pack("=I", TCA_BPF_FLAG_ACT_DIRECT))
        message = _tcmsg(ifindex, HANDLE, parent, INFO)
        message += attribute(TCA_KIND, b"bpf\0") + attribute(TCA_OPTIONS, options)
        self._netlink.call(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_REPLACE, message)


def bind_to_blocks(ifindex: int, blocks: TcBlocks) -> Request:
    """Give a device a clsact qdisc whose two sides are the shared blocks; numbers above 0."""
    sides = attribute(TCA_INGRESS_BLOCK, struct.pack("=I", blocks.ingress))
    sides += attribute(TCA_EGRESS_BLOCK, struct.pack("=I", blocks.egress))
    return _add_clsact(ifindex, sides)


def _add_clsact(ifindex: int, sides: bytes = b"") -> Request:
    message = _tcmsg(ifindex, CLSACT_HANDLE, TC_H_CLSACT, 0) + attribute(TCA_KIND, b"clsact\0") + sides
    return Request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, message)


def _tcmsg(ifindex: int, handle: int, parent: int, info: int) -> bytes:
    """``struct tcmsg``; a block's number stands where the parent would."""
    return TCMSG.pack(socket.AF_UNSPEC, ifindex, handle, parent, info)


def _device_of(payload: bytes) -> int:
    return int(TCMSG.unpack_from(payload)[1])
