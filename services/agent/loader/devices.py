"""Devices of the node itself: the overlay's end, and the pair that keeps the pods' tc blocks alive.

::

    cilia_host   the pods' gateway addresses, so that the node answers for them
        |        veth pair
    cilia_net    bound to the pods' blocks: a block dies with its last device, and this one stays
    cilia_vxlan  VXLAN with the peer set per packet (collect metadata); no address, learning off,
                 asks for no neighbour. Only where an overlay leads to pods of other nodes.

All of it is found again after a restart. Blocks on RTNL: for the worker thread.
"""

import errno
import logging
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from services.agent.errors import LinkFailed
from services.agent.netlink.requests import add_address, without_link_local
from services.agent.netlink.rtnetlink import RtNetlink
from services.agent.netlink.tc import TcBlocks, TrafficControl

log = logging.getLogger(__name__)

VXLAN_OVERHEAD_BYTES: Final = 50
LARGEST_MTU_BYTES: Final = 65535
IFF_NOARP: Final = 0x80
HOST, NET, VXLAN = "cilia_host", "cilia_net", "cilia_vxlan"


@dataclass(frozen=True, slots=True)
class NodeDevices:
    """Indexes of the node's devices; the pods' MTU is the underlay's less the encapsulation."""

    host: int
    net: int
    vxlan: int
    """0: no overlay."""
    uplinks: tuple[int, ...]
    """Devices by which packets leave for other nodes and the world: the named ones, or the one with
    the underlay's address.
    """
    mtu_bytes: int


def ensure_devices(
    *, underlay_ipv4: str, uplinks: Sequence[str], vxlan_port: int | None, blocks: TcBlocks
) -> NodeDevices:
    """Have the node's devices, up and bound to their blocks; what exists is kept, or removed if it
    isn't wanted.

    Args:
        uplinks: Their names; empty: the device with the underlay's address.
        vxlan_port: None: no overlay.

    Raises:
        LinkFailed: No device holds the underlay's address or is named as an uplink, or the kernel
            refused a device.
    """
    with IPRoute() as netlink:
        try:
            return _ensure(netlink, underlay_ipv4, uplinks, vxlan_port, blocks)
        except NetlinkError as error:
            raise LinkFailed("creation", "cilia_*", "", str(error)) from error


def set_gateways(ifindex: int, gateways: Iterable[str]) -> None:
    """Give ``cilia_host`` the pods' gateway addresses, so that the node answers for them."""
    with RtNetlink() as netlink:
        for error in netlink.call_many([add_address(ifindex, gateway) for gateway in gateways]):
            if error not in (0, errno.EEXIST):
                raise LinkFailed("address", HOST, "", os.strerror(error))


def _ensure(
    netlink: IPRoute, underlay_ipv4: str, uplinks: Sequence[str], vxlan_port: int | None, blocks: TcBlocks
) -> NodeDevices:
    underlay, mtu = _underlay(netlink, underlay_ipv4)
    named = tuple(_uplink(netlink, name) for name in uplinks)
    if vxlan_port is not None:
        mtu -= VXLAN_OVERHEAD_BYTES
    host = _lookup(netlink, HOST)
    if not host:
        netlink.link("add", ifname=HOST, kind="veth", mtu=mtu, peer={"ifname": NET, "mtu": mtu})
        host = _lookup(netlink, HOST)
    net, vxlan = _lookup(netlink, NET), _overlay(netlink, vxlan_port)
    _bind(net, blocks)
    with RtNetlink() as requests:
        for index in filter(None, (host, net, vxlan)):
            requests.call(*without_link_local(index))
            netlink.link("set", index=index, mtu=mtu, state="up")
    return NodeDevices(host=host, net=net, vxlan=vxlan, uplinks=named or (underlay,), mtu_bytes=mtu)


def _overlay(netlink: IPRoute, vxlan_port: int | None) -> int:
    """Have the VXLAN device if it is wanted; return its index."""
    vxlan = _lookup(netlink, VXLAN)
    if vxlan_port is None:
        if vxlan:
            netlink.link("del", index=vxlan)
        return 0
    if not vxlan:
        netlink.link(
            "add", ifname=VXLAN, kind="vxlan", vxlan_collect_metadata=True, vxlan_learning=False, vxlan_port=vxlan_port
        )
        vxlan = _lookup(netlink, VXLAN)
    netlink.link("set", index=vxlan, flags=IFF_NOARP, change=IFF_NOARP)
    return vxlan


def _bind(ifindex: int, blocks: TcBlocks) -> None:
    control = TrafficControl()
    with suppress(FileExistsError):
        control.bind_to_blocks(ifindex, blocks)
    control.close()


def _underlay(netlink: IPRoute, address: str) -> tuple[int, int]:
    """Return index and MTU in bytes of the device with the underlay's address."""
    found = list(netlink.get_addr(address=address))
    if not found:
        raise LinkFailed("lookup", f"the device with address {address}", "", "no device has it")
    ifindex = int(found[0]["index"])
    (link,) = netlink.get_links(ifindex)
    return ifindex, min(int(link.get("mtu")), LARGEST_MTU_BYTES)  # the loopback device has a byte more


def _uplink(netlink: IPRoute, name: str) -> int:
    ifindex = _lookup(netlink, name)
    if not ifindex:
        raise LinkFailed("lookup", f"uplink {name!r}", "", "no device of this name (setting 'uplinks')")
    return ifindex


def _lookup(netlink: IPRoute, interface: str) -> int:
    found = netlink.link_lookup(ifname=interface)
    return int(found[0]) if found else 0
