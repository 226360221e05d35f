"""Pods' links: a veth pair, its address and route, made in one go or not at all.

::

    pod's namespace                      node's namespace
    eth0  a.b.c.d/32, default via gw --- lxc<id>  clsact on the shared blocks, route a.b.c.d/32
          gw is at GATEWAY_MAC                    (for the node's own traffic to the pod)

IPv6 is the same with a /128; its addresses are there at once (no duplicate detection: the node gave them), and nothing
speaks but for the pod: no link-local addresses, no router advertisements heard.

The device inside is created in the pod's namespace at once (moving it would cost an RCU grace period), and comes up
last, after the programs are in place. Everything here blocks on RTNL and belongs in the worker thread.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from cilia.netns import inside, open_netns
from services.agent.errors import InterfaceTaken, WiringFailed
from services.agent.tc import TrafficControl

log = logging.getLogger(__name__)

GATEWAY_MAC: Final = "02:63:69:6c:69:61"
"""Of the host's end of every pod's link: what the programs give as the gateway's (bpf/lib/config.h)."""
NUD_PERMANENT: Final = 0x80
RTNH_F_ONLINK: Final = 4
RT_SCOPE_LINK: Final = 253
LOOPBACK: Final = 1
IN6_ADDR_GEN_MODE_NONE: Final = 1
IFA_F_NODAD: Final = 2


@dataclass(frozen=True, slots=True)
class PodLink:
    """How a pod is connected; ``mtu_bytes`` of the inner packet."""

    netns: str
    interface: str
    mac: str
    gateways: tuple[tuple[str, str], ...]
    """(the pod's address, its gateway) of each family, as text."""
    host_interface: str
    mtu_bytes: int


@dataclass(frozen=True, slots=True)
class Blocks:
    """Numbers of the tc blocks that all pods' devices share."""

    ingress: int
    egress: int


class PodWiring:
    """Connects pods. Lives in the worker thread that made it, in the node's namespace."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._host = IPRoute()
        self._tc = TrafficControl()

    def close(self) -> None:
        """Give the sockets back; links stay."""
        self._host.close()
        self._tc.close()

    def connect(self, link: PodLink) -> int:
        """Connect a pod and return the index of the host's end; a link of that name is replaced.

        Raises:
            NoNetworkNamespace: The pod's namespace can't be entered.
            InterfaceTaken: The pod has a device of that name.
            WiringFailed: The kernel refused a step; what was done is undone.
        """
        self.disconnect(link.host_interface)
        with open_netns(link.netns) as netns:
            with inside(link.netns):
                pod = IPRoute()
            try:
                return self._connect(link, pod, netns)
            except WiringFailed:
                self.disconnect(link.host_interface)
                raise
            finally:
                pod.close()

    def disconnect(self, host_interface: str) -> None:
        """Remove a pod's link, both ends and all that hangs on it; one that is gone changes nothing."""
        ifindex = self.ifindex(host_interface)
        if not ifindex:
            return
        with _step("removal", host_interface):
            self._host.link("del", index=ifindex)

    def ifindex(self, interface: str) -> int:
        """Return the index of a device of the node, 0 if there is none."""
        return _ifindex(self._host, interface)

    def _connect(self, link: PodLink, pod: IPRoute, netns: int) -> int:
        if _ifindex(pod, link.interface):
            raise InterfaceTaken(link.interface, link.netns)
        with _step("creation", link.interface, link.netns):
            self._host.link(
                "add",
                kind="veth",
                ifname=link.host_interface,
                address=GATEWAY_MAC,
                mtu=link.mtu_bytes,
                peer={"ifname": link.interface, "net_ns_fd": netns, "address": link.mac, "mtu": link.mtu_bytes},
            )
        host_index, pod_index = self.ifindex(link.host_interface), _ifindex(pod, link.interface)
        with _step("configuration", link.host_interface):
            without_ipv6(self._host, host_index)
        with _step("attachment", link.host_interface):
            self._tc.bind_to_blocks(host_index, ingress=self._blocks.ingress, egress=self._blocks.egress)
        with _step("configuration", link.interface, link.netns):
            without_ipv6(pod, pod_index)
            _configure_pod(pod, pod_index, link)
        with _step("configuration", link.host_interface):
            self._host.link("set", index=host_index, state="up")
            for address, _ in link.gateways:
                dst, mac = f"{address}/{_bits(address)}", link.mac
                self._host.route("replace", dst=dst, oif=host_index, scope=RT_SCOPE_LINK)
                self._host.neigh("replace", ifindex=host_index, dst=address, lladdr=mac, state=NUD_PERMANENT)
        return host_index


def _configure_pod(pod: IPRoute, index: int, link: PodLink) -> None:
    """Give the pod's device its addresses, and the pod its ways out."""
    pod.link("set", index=LOOPBACK, state="up")
    for address, _ in link.gateways:
        pod.addr("add", index=index, address=address, prefixlen=_bits(address), flags=IFA_F_NODAD)
    pod.link("set", index=index, state="up")
    for address, gateway in link.gateways:
        everywhere = "::/0" if ":" in address else "0.0.0.0/0"
        pod.neigh("add", ifindex=index, dst=gateway, lladdr=GATEWAY_MAC, state=NUD_PERMANENT)
        pod.route("add", dst=everywhere, gateway=gateway, oif=index, flags=RTNH_F_ONLINK)


def _bits(address: str) -> int:
    return 128 if ":" in address else 32


def random_mac() -> str:
    """Return a fresh locally administered unicast MAC address."""
    first, *rest = os.urandom(6)
    return ":".join(f"{byte:02x}" for byte in (first & 0xFC | 0x02, *rest))


def without_ipv6(netlink: IPRoute, ifindex: int) -> None:
    """Give a device no link-local address: nobody would answer its solicitations, and each would count as a drop."""
    inet6 = {"attrs": [["IFLA_INET6_ADDR_GEN_MODE", IN6_ADDR_GEN_MODE_NONE]]}
    netlink.link("set", index=ifindex, IFLA_AF_SPEC={"attrs": [["AF_INET6", inet6]]})


def _ifindex(netlink: IPRoute, interface: str) -> int:
    found = netlink.link_lookup(ifname=interface)
    return int(found[0]) if found else 0


@contextmanager
def _step(step: str, interface: str, netns: str = "") -> Iterator[None]:
    try:
        yield
    except (NetlinkError, OSError) as error:
        reason = os.strerror(error.code) if isinstance(error, NetlinkError) else str(error)
        raise WiringFailed(step, interface, netns, reason) from error
