"""Pods' links: a veth pair, its address and route, made in one go or not at all.

::

    pod's namespace                      node's namespace
    eth0  a.b.c.d/32, default via gw --- lxc<id>  clsact on the shared blocks, route a.b.c.d/32
          gw is at GATEWAY_MAC                    (for the node's own traffic to the pod)

IPv6 is the same with a /128; its addresses are there at once (no duplicate detection: the node gave
them), and nothing speaks but for the pod: no link-local addresses, no router advertisements heard.

The device inside is created in the pod's namespace at once (moving it would cost an RCU grace
period), and comes up last, after the programs are in place and the host's end is up: so it finds a
carrier, and sends from its first moment on. Everything here blocks on RTNL and belongs in the
worker thread.
"""

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cilia.abi import defaults
from cilia.netns import inside, open_netns
from services.agent.errors import InterfaceTaken, LinkFailed
from services.agent.netlink.queries import ifindex
from services.agent.netlink.requests import (
    add_address,
    add_default_route,
    delete_link,
    new_veth,
    set_host_route,
    set_neighbour,
    set_up,
    sync_link_state,
    without_link_local,
)
from services.agent.netlink.rtnetlink import Request, RtNetlink
from services.agent.netlink.tc import TcBlocks, bind_to_blocks

GATEWAY_MAC: Final = defaults.GATEWAY_MAC.hex(":")
"""MAC address of the host's end of every pod's link, which the programs give as the gateway's."""
LOOPBACK: Final = 1


@dataclass(frozen=True, slots=True)
class PodLink:
    """Link of a pod as it should be; ``mtu_bytes`` of the inner packet."""

    netns: str
    interface: str
    mac: str
    gateways: tuple[tuple[str, str], ...]
    """(the pod's address, its gateway) of each family, as text."""
    host_interface: str
    mtu_bytes: int


class PodLinks:
    """Connects pods. Lives in the worker thread that made it, in the node's namespace."""

    def __init__(self, blocks: TcBlocks) -> None:
        self._blocks = blocks
        self._host = RtNetlink()

    def close(self) -> None:
        """Give the socket back; links stay."""
        self._host.close()

    def connect(self, link: PodLink) -> int:
        """Connect a pod and return the index of the host's end; a link of that name is replaced.

        Raises:
            NoNetworkNamespace: The pod's namespace can't be entered.
            InterfaceTaken: The pod has a device of that name.
            LinkFailed: The kernel refused a step; what was done is undone.
        """
        self.disconnect(link.host_interface)
        with open_netns(link.netns) as netns:
            with inside(link.netns):
                if ifindex(link.interface):
                    raise InterfaceTaken(link.interface, link.netns)
                pod = RtNetlink()
            try:
                return self._connect(link, pod, netns)
            except LinkFailed:
                self.disconnect(link.host_interface)
                raise
            finally:
                pod.close()

    def disconnect(self, host_interface: str) -> None:
        """Remove a pod's link with all that hangs on it, if it is there."""
        (error,) = self._host.call_many([delete_link(host_interface)])
        if error not in (0, errno.ENODEV):
            raise LinkFailed("removal", host_interface, "", os.strerror(error))

    def ifindex(self, interface: str) -> int:
        """Return the index of a device of the node, 0 if there is none."""
        return ifindex(interface)

    def _connect(self, link: PodLink, pod: RtNetlink, netns: int) -> int:
        pair = new_veth(
            link.host_interface,
            GATEWAY_MAC,
            peer=link.interface,
            peer_mac=link.mac,
            peer_netns=netns,
            mtu_bytes=link.mtu_bytes,
        )
        _carry_out(self._host, "creation", link.interface, link.netns, [pair])
        host_index = self.ifindex(link.host_interface)
        with inside(link.netns):
            pod_index = ifindex(link.interface)
            _prepare_ipv6(link)
        _carry_out(self._host, "configuration", link.host_interface, "", [without_link_local(host_index)])
        _carry_out(self._host, "attachment", link.host_interface, "", [bind_to_blocks(host_index, self._blocks)])
        _carry_out(self._host, "configuration", link.host_interface, "", _requests_outside(link, host_index))
        _carry_out(pod, "configuration", link.interface, link.netns, _requests_inside(link, pod_index))
        _carry_out(self._host, "configuration", link.host_interface, "", [sync_link_state(host_index)])
        return host_index


def random_mac() -> str:
    """Return a fresh locally administered unicast MAC address."""
    first, *rest = os.urandom(6)
    return ":".join(f"{byte:02x}" for byte in (first & 0xFC | 0x02, *rest))


def _requests_inside(link: PodLink, ifindex: int) -> list[Request]:
    """Return what gives the pod's device its addresses, and the pod its ways out."""
    requests = [without_link_local(ifindex), set_up(LOOPBACK)]
    requests += [add_address(ifindex, address) for address, _ in link.gateways]
    requests.append(set_up(ifindex))
    for _, gateway in link.gateways:
        requests += [set_neighbour(ifindex, gateway, GATEWAY_MAC), add_default_route(ifindex, gateway)]
    return requests


def _requests_outside(link: PodLink, ifindex: int) -> list[Request]:
    """Return what gives the node its way to the pod."""
    requests = [set_up(ifindex)]
    for address, _ in link.gateways:
        requests += [set_host_route(ifindex, address), set_neighbour(ifindex, address, link.mac)]
    return requests


def _prepare_ipv6(link: PodLink) -> None:
    """Have the pod's device, in whose namespace the thread is, speak IPv6 if it is to, and never
    obey routers.

    Runtimes make namespaces in which IPv6 is off until somebody wants it.
    """
    if not any(":" in address for address, _ in link.gateways):
        return
    for switch in ("disable_ipv6", "accept_ra"):
        try:
            Path("/proc/sys/net/ipv6/conf", link.interface, switch).write_text("0")
        except OSError as error:
            raise LinkFailed("configuration", link.interface, link.netns, f"{switch}: {error.strerror}") from error


def _carry_out(netlink: RtNetlink, step: str, interface: str, netns: str, requests: Sequence[Request]) -> None:
    """Have the kernel carry requests out, all in one go.

    Raises:
        LinkFailed: It refused one; says why.
    """
    for error in netlink.call_many(requests):
        if error:
            raise LinkFailed(step, interface, netns, os.strerror(error))
