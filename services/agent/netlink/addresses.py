"""Addresses of the devices of a network namespace, and the notice that one came or went."""

import asyncio
import errno
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Self

from services.agent.netlink.requests import IFA_ADDRESS, IFA_LOCAL, IFADDRMSG, RTM_GETADDR
from services.agent.netlink.rtnetlink import RECEIVE_BYTES, RtNetlink, attributes

IFA_BROADCAST, IFA_FLAGS = 4, 8
IFA_F_DADFAILED: Final = 0x08
RT_SCOPE_UNIVERSE: Final = 0
RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x10, 0x100
FAMILIES: Final = {socket.AF_INET: 4, socket.AF_INET6: 16}
"""Bytes of an address of each family."""


class DeviceAddress(NamedTuple):
    """An address of a device; addresses as bytes in network order."""

    address: bytes
    prefix_bits: int
    ifindex: int
    broadcast: bytes = b""
    """Broadcast address that was set; empty: none."""
    is_global: bool = True
    """It is known beyond its link and its host."""
    is_duplicate: bool = False
    """Another host was found to have it, so that the kernel doesn't listen there."""


def read_addresses(netlink: RtNetlink) -> Iterator[DeviceAddress]:
    """Yield the addresses of all devices, of both families."""
    for payload in netlink.dump(RTM_GETADDR, bytes(IFADDRMSG.size)):
        family, bits, flags, scope, ifindex = IFADDRMSG.unpack_from(payload)
        given = attributes(payload[IFADDRMSG.size :])
        address = given.get(IFA_LOCAL) or given.get(IFA_ADDRESS, b"")
        if len(address) != FAMILIES.get(family):
            continue
        flags |= int.from_bytes(given.get(IFA_FLAGS, b""), sys.byteorder)
        yield DeviceAddress(
            address,
            bits,
            ifindex,
            given.get(IFA_BROADCAST, b""),
            is_global=scope == RT_SCOPE_UNIVERSE,
            is_duplicate=bool(flags & IFA_F_DADFAILED),
        )


class AddressNotices:
    """Notices of the kernel that an address came or went, in the namespace in which it was opened.

    What a notice says is not read: several may stand for one, some may be lost (ENOBUFS), and the
    addresses themselves tell more. Blocks nowhere.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        self._socket.bind((0, RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def drain(self) -> None:
        """Take the notices that have come."""
        while True:
            try:
                self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise

    async def watch(self, notice: Callable[[], None]) -> None:
        """Call ``notice`` after each change, perhaps once for several, until cancelled."""
        loop = asyncio.get_running_loop()

        def readable() -> None:
            self.drain()
            notice()

        loop.add_reader(self._socket.fileno(), readable)
        try:
            await asyncio.Event().wait()
        finally:
            loop.remove_reader(self._socket.fileno())
