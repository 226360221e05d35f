"""Requests about links, and the addresses, neighbours and routes on them, packed for
:class:`RtNetlink`.

Layouts are those of linux/if_link.h, linux/if_addr.h, linux/neighbour.h and linux/rtnetlink.h.
"""

import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from services.agent.netlink.rtnetlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Request, attribute

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_GETADDR, RTM_NEWROUTE, RTM_NEWNEIGH = 20, 22, 24, 28
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO, IFLA_AF_SPEC, IFLA_NET_NS_FD = 1, 3, 4, 18, 26, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFLA_VXLAN_LEARNING, IFLA_VXLAN_PORT, IFLA_VXLAN_COLLECT_METADATA = 7, 15, 25
IFLA_INET6_ADDR_GEN_MODE: Final = 8
IN6_ADDR_GEN_MODE_NONE: Final = 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
IFA_F_NODAD: Final = 2
NDA_DST, NDA_LLADDR = 1, 2
NUD_PERMANENT: Final = 0x80
RTA_DST, RTA_OIF, RTA_GATEWAY = 1, 4, 5
RT_TABLE_MAIN: Final = 254
RTPROT_STATIC: Final = 4
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 0, 253
RTN_UNICAST: Final = 1
RTNH_F_ONLINK: Final = 4
IFF_UP, IFF_NOARP = 1, 0x80

IFINFOMSG: Final = struct.Struct("=BxHiII")
IFADDRMSG: Final = struct.Struct("=4BI")

_NEIGHBOUR: Final = struct.Struct("=BxxxiHBB")
_ROUTE: Final = struct.Struct("=8BI")
_NEW: Final = NLM_F_CREATE | NLM_F_EXCL
_REPLACE: Final = NLM_F_CREATE | NLM_F_REPLACE


def new_veth(name: str, mac: str, *, peer: str, peer_mac: str, peer_netns: int, mtu_bytes: int) -> Request:
    """Make a pair, the peer in another network namespace (a descriptor) from the start."""
    other = _named(peer, mtu_bytes, peer_mac) + attribute(IFLA_NET_NS_FD, _u32(peer_netns))
    return _veth(_named(name, mtu_bytes, mac), other)


def new_local_veth(name: str, *, peer: str, mtu_bytes: int) -> Request:
    """Make a pair whose ends are both here; the kernel gives the MAC addresses."""
    return _veth(_named(name, mtu_bytes), _named(peer, mtu_bytes))


def new_vxlan(name: str, port: int) -> Request:
    """Make a VXLAN device that gets its peer with each packet, and learns none."""
    options = attribute(IFLA_VXLAN_COLLECT_METADATA, b"\1") + attribute(IFLA_VXLAN_LEARNING, b"\0")
    options += attribute(IFLA_VXLAN_PORT, struct.pack("!H", port))
    return _new_link("vxlan", attribute(IFLA_IFNAME, name.encode() + b"\0"), options)


def delete_link(name: str) -> Request:
    """Remove a device, and the other end of a pair with it."""
    return Request(RTM_DELLINK, 0, _link() + attribute(IFLA_IFNAME, name.encode() + b"\0"))


def set_up(ifindex: int) -> Request:
    """Bring a device up."""
    return Request(RTM_SETLINK, 0, _link(ifindex, IFF_UP, IFF_UP))


def set_mtu(ifindex: int, mtu_bytes: int) -> Request:
    """Give a device another MTU."""
    return Request(RTM_SETLINK, 0, _link(ifindex) + attribute(IFLA_MTU, _u32(mtu_bytes)))


def without_arp(ifindex: int) -> Request:
    """Have a device ask for no neighbour."""
    return Request(RTM_SETLINK, 0, _link(ifindex, IFF_NOARP, IFF_NOARP))


def sync_link_state(ifindex: int) -> Request:
    """Have what became of a device's link take effect before the answer, as Linux does since 6.8.

    The kernel learns of a link's other end later and under RTNL; until then the device drops what
    it is to send.
    """
    return Request(RTM_GETLINK, 0, _link(ifindex))


def without_link_local(ifindex: int) -> Request:
    """Give a device no link-local address: each of its solicitations would count as a drop."""
    mode = attribute(IFLA_INET6_ADDR_GEN_MODE, bytes([IN6_ADDR_GEN_MODE_NONE]))
    return Request(RTM_SETLINK, 0, _link(ifindex) + attribute(IFLA_AF_SPEC, attribute(socket.AF_INET6, mode)))


def add_address(ifindex: int, address: str) -> Request:
    """Give a device an address, alone on its link and in use at once, without DAD."""
    parsed = ip_address(address)
    head = IFADDRMSG.pack(_family(parsed), parsed.max_prefixlen, IFA_F_NODAD, RT_SCOPE_UNIVERSE, ifindex)
    packed = parsed.packed
    return Request(RTM_NEWADDR, _NEW, head + attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed))


def set_neighbour(ifindex: int, address: str, mac: str) -> Request:
    """Have an address at a MAC address, for good."""
    parsed = ip_address(address)
    head = _NEIGHBOUR.pack(_family(parsed), ifindex, NUD_PERMANENT, 0, 0)
    return Request(
        RTM_NEWNEIGH, _REPLACE, head + attribute(NDA_DST, parsed.packed) + attribute(NDA_LLADDR, _bytes_of(mac))
    )


def set_host_route(ifindex: int, address: str) -> Request:
    """Have one address on a device's link."""
    parsed = ip_address(address)
    destination = attribute(RTA_DST, parsed.packed)
    return Request(
        RTM_NEWROUTE, _REPLACE, _route(parsed, parsed.max_prefixlen, RT_SCOPE_LINK) + destination + _by(ifindex)
    )


def add_default_route(ifindex: int, gateway: str) -> Request:
    """Route all else by way of a gateway that is on the device's link, whatever its address."""
    parsed = ip_address(gateway)
    head = _route(parsed, 0, RT_SCOPE_UNIVERSE, RTNH_F_ONLINK)
    return Request(RTM_NEWROUTE, _NEW, head + attribute(RTA_GATEWAY, parsed.packed) + _by(ifindex))


def _link(ifindex: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return IFINFOMSG.pack(socket.AF_UNSPEC, 0, ifindex, flags, change)


def _veth(end: bytes, other: bytes) -> Request:
    return _new_link("veth", end, attribute(VETH_INFO_PEER, _link() + other))


def _new_link(kind: str, given: bytes, options: bytes) -> Request:
    info = attribute(IFLA_INFO_KIND, kind.encode() + b"\0") + attribute(IFLA_INFO_DATA, options)
    return Request(RTM_NEWLINK, _NEW, _link() + given + attribute(IFLA_LINKINFO, info))


def _named(name: str, mtu_bytes: int, mac: str = "") -> bytes:
    text = attribute(IFLA_IFNAME, name.encode() + b"\0") + attribute(IFLA_MTU, _u32(mtu_bytes))
    return text + (attribute(IFLA_ADDRESS, _bytes_of(mac)) if mac else b"")


def _route(address: IPv4Address | IPv6Address, bits: int, scope: int, flags: int = 0) -> bytes:
    return _ROUTE.pack(_family(address), bits, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, RTN_UNICAST, flags)


def _by(ifindex: int) -> bytes:
    return attribute(RTA_OIF, _u32(ifindex))


def _family(address: IPv4Address | IPv6Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _bytes_of(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _u32(value: int) -> bytes:
    return struct.pack("=I", value)
