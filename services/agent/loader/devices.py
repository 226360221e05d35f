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

from services.agent.errors import LinkFailed
from services.agent.netlink.queries import device_of, ifindex, read_links
from services.agent.netlink.requests import (
    add_address,
    delete_link,
    new_local_veth,
    new_vxlan,
    set_mtu,
    set_up,
    without_arp,
    without_link_local,
)
from services.agent.netlink.rtnetlink import RtNetlink
from services.agent.netlink.tc import TcBlocks, bind_to_blocks

log = logging.getLogger(__name__)

VXLAN_OVERHEAD_BYTES: Final = 50
LARGEST_MTU_BYTES: Final = 65535
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
    with RtNetlink() as netlink:
        try:
            return _ensure(netlink, underlay_ipv4, uplinks, vxlan_port, blocks)
        except OSError as error:
            raise LinkFailed("creation", "cilia_*", "", str(error)) from error


def set_gateways(ifindex: int, gateways: Iterable[str]) -> None:
    """Give ``cilia_host`` the pods' gateway addresses, so that the node answers for them."""
    with RtNetlink() as netlink:
        for error in netlink.call_many([add_address(ifindex, gateway) for gateway in gateways]):
            if error not in (0, errno.EEXIST):
                raise LinkFailed("address", HOST, "", os.strerror(error))


def _ensure(
    netlink: RtNetlink, underlay_ipv4: str, uplinks: Sequence[str], vxlan_port: int | None, blocks: TcBlocks
) -> NodeDevices:
    underlay, mtu = _underlay(netlink, underlay_ipv4)
    named = tuple(map(_uplink, uplinks))
    if vxlan_port is not None:
        mtu -= VXLAN_OVERHEAD_BYTES
    if not ifindex(HOST):
        netlink.call(*new_local_veth(HOST, peer=NET, mtu_bytes=mtu))
    host, net, vxlan = ifindex(HOST), ifindex(NET), _overlay(netlink, vxlan_port)
    with suppress(FileExistsError):
        netlink.call(*bind_to_blocks(net, blocks))
    for index in filter(None, (host, net, vxlan)):
        for request in (without_link_local(index), set_mtu(index, mtu), set_up(index)):
            netlink.call(*request)
    return NodeDevices(host=host, net=net, vxlan=vxlan, uplinks=named or (underlay,), mtu_bytes=mtu)


def _overlay(netlink: RtNetlink, vxlan_port: int | None) -> int:
    """Have the VXLAN device if it is wanted; return its index."""
    vxlan = ifindex(VXLAN)
    if vxlan_port is None:
        if vxlan:
            netlink.call(*delete_link(VXLAN))
        return 0
    if not vxlan:
        netlink.call(*new_vxlan(VXLAN, vxlan_port))
        vxlan = ifindex(VXLAN)
    netlink.call(*without_arp(vxlan))
    return vxlan


def _underlay(netlink: RtNetlink, address: str) -> tuple[int, int]:
    """Return index and MTU in bytes of the device with the underlay's address."""
    index, links = device_of(netlink, address), read_links(netlink)
    if index not in links:
        raise LinkFailed("lookup", f"the device with address {address}", "", "no device has it")
    return index, min(links[index].mtu_bytes, LARGEST_MTU_BYTES)  # the loopback device has a byte more


def _uplink(name: str) -> int:
    index = ifindex(name)
    if not index:
        raise LinkFailed("lookup", f"uplink {name!r}", "", "no device of this name (setting 'uplinks')")
    return index
