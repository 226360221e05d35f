"""Traffic control, as far as the agent needs it: clsact on shared blocks, and one BPF filter for each block.

A block's filter serves every device that is bound to it, so a pod costs one qdisc and no filter, and one ``replace``
changes the program of all pods without a packet seeing none. Hand-packed, since pyroute2 knows no blocks; layouts are
those of linux/rtnetlink.h and linux/pkt_cls.h. Every call blocks on RTNL: for the worker thread only.
"""

import os
import socket
import struct
from typing import Final

NLMSG_ERROR: Final = 2
NLM_F_REQUEST_ACK: Final = 0x5
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
RTM_NEWQDISC: Final = 36
RTM_NEWTFILTER: Final = 44
TCM_IFINDEX_MAGIC_BLOCK: Final = 0xFFFF_FFFF
TC_H_CLSACT: Final = 0xFFFF_FFF1
CLSACT_HANDLE: Final = 0xFFFF_0000
TC_H_MIN_INGRESS: Final = 0xFFFF_FFF2
TCA_KIND, TCA_OPTIONS, TCA_INGRESS_BLOCK, TCA_EGRESS_BLOCK = 1, 2, 13, 14
TCA_BPF_FD, TCA_BPF_NAME, TCA_BPF_FLAGS = 6, 7, 8
TCA_BPF_FLAG_ACT_DIRECT: Final = 1
ETH_P_ALL: Final = 3
PRIORITY: Final = 1
HANDLE: Final = 1


class TrafficControl:
    """A netlink socket in the network namespace in which it was opened."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def bind_to_blocks(self, ifindex: int, *, ingress: int, egress: int) -> None:
        """Give a device a clsact qdisc whose two sides are the shared blocks; numbers above 0.

        Raises:
            OSError: EEXIST if it has one; ENODEV.
        """
        attributes = _attribute(TCA_INGRESS_BLOCK, struct.pack("=I", ingress))
        attributes += _attribute(TCA_EGRESS_BLOCK, struct.pack("=I", egress))
        self._add_clsact(ifindex, attributes, NLM_F_EXCL)

    def ensure_clsact(self, ifindex: int) -> None:
        """Give a device a clsact qdisc of its own unless it has one."""
        try:
            self._add_clsact(ifindex, b"", NLM_F_EXCL)
        except FileExistsError:
            return

    def replace_block_filter(self, block: int, program_fd: int, name: str) -> None:
        """Have ``program_fd`` run, direct-action, on every device bound to ``block``; each packet meets a program.

        Raises:
            OSError: ENOENT or EINVAL if no device is bound to the block.
        """
        self._replace_filter(TCM_IFINDEX_MAGIC_BLOCK, block, program_fd, name)

    def replace_ingress_filter(self, ifindex: int, program_fd: int, name: str) -> None:
        """Have ``program_fd`` run on what comes in by one device with a clsact qdisc of its own."""
        self._replace_filter(ifindex, TC_H_MIN_INGRESS, program_fd, name)

    def _add_clsact(self, ifindex: int, attributes: bytes, flags: int) -> None:
        message = _tcmsg(ifindex, CLSACT_HANDLE, TC_H_CLSACT, 0)
        message += _attribute(TCA_KIND, b"clsact\0") + attributes
        self._call(RTM_NEWQDISC, NLM_F_CREATE | flags, message)

    def _replace_filter(self, ifindex: int, parent: int, program_fd: int, name: str) -> None:
        info = PRIORITY << 16 | socket.htons(ETH_P_ALL)
        options = _attribute(TCA_BPF_FD, struct.pack("=I", program_fd))
        options += _attribute(TCA_BPF_NAME, name.encode() + b"\0")
        options += _attribute(TCA_BPF_FLAGS, struct.pack("=I", TCA_BPF_FLAG_ACT_DIRECT))
        message = _tcmsg(ifindex, HANDLE, parent, info)
        message += _attribute(TCA_KIND, b"bpf\0") + _attribute(TCA_OPTIONS, options)
        self._call(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_REPLACE, message)

    def _call(self, kind: int, flags: int, message: bytes) -> None:
        self._sequence += 1
        header = struct.pack("=IHHII", 16 + len(message), kind, NLM_F_REQUEST_ACK | flags, self._sequence, 0)
        self._socket.send(header + message)
        while True:
            answer = self._socket.recv(65536)
            _, answer_kind, _, sequence, _ = struct.unpack_from("=IHHII", answer)
            if sequence == self._sequence and answer_kind == NLMSG_ERROR:
                (error,) = struct.unpack_from("=i", answer, 16)
                if error:
                    raise OSError(-error, os.strerror(-error))
                return


def _attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def _tcmsg(ifindex: int, handle: int, parent: int, info: int) -> bytes:
    """``struct tcmsg``; a block's number stands where the parent would."""
    return struct.pack("=BxxxIIII", socket.AF_UNSPEC, ifindex, handle, parent, info)
