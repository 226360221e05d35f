"""Queries about the devices of a network namespace: by name, by address, and all of them."""

import socket
import sys
from ipaddress import ip_address
from typing import NamedTuple

from services.agent.netlink.requests import (
    IFA_ADDRESS,
    IFA_LOCAL,
    IFADDRMSG,
    IFINFOMSG,
    IFLA_IFNAME,
    IFLA_MTU,
    RTM_GETADDR,
    RTM_GETLINK,
)
from services.agent.netlink.rtnetlink import RtNetlink, attributes


class Link(NamedTuple):
    """A device."""

    name: str
    mtu_bytes: int


def ifindex(name: str) -> int:
    """Return the index of a device in the thread's namespace, 0 if there is none."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def read_links(netlink: RtNetlink) -> dict[int, Link]:
    """Return all devices, by index."""
    found = {}
    for payload in netlink.dump(RTM_GETLINK, bytes(IFINFOMSG.size)):
        given = attributes(payload[IFINFOMSG.size :])
        mtu = int.from_bytes(given.get(IFLA_MTU, b""), sys.byteorder)
        found[int(IFINFOMSG.unpack_from(payload)[2])] = Link(given[IFLA_IFNAME].rstrip(b"\0").decode(), mtu)
    return found


def device_of(netlink: RtNetlink, address: str) -> int:
    """Return the index of the device that has an address, 0 if none has."""
    wanted, found = ip_address(address).packed, 0
    for payload in netlink.dump(RTM_GETADDR, bytes(IFADDRMSG.size)):
        given = attributes(payload[IFADDRMSG.size :])
        if given.get(IFA_LOCAL, given.get(IFA_ADDRESS)) == wanted:
            found = int(IFADDRMSG.unpack_from(payload)[4])
    return found
