"""Packets by the tunnel, from whoever reaches its port: they count as far as the agent's tables
bear them out.
"""

import socket
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from cilia.abi.enums import DropReason, EventKind
from cilia.abi.structs import Event
from cilia.datapath.links import AttachType, Link
from tests.bpf.datapath.packets import tcp, udp
from tests.bpf.datapath.rig import (
    A6,
    B6,
    EGRESS,
    GATEWAY,
    GATEWAY6,
    HOST,
    INGRESS,
    NODE,
    NODE6,
    OTHER_NODE,
    OTHER_NODE6,
    R6,
    REMOTE_NODE,
    A,
    B,
    Node,
    Pod,
    R,
    W,
    node,
    populate,
)

STRANGER = "192.0.2.66"
THIRD_NODE = "192.0.2.3"
FORMER = "192.0.2.44"
"""Another address of the other node."""
SECONDS = 10.0
LABELLED_NODE = 2 << 24 | 5
FRESH, FRESH6 = Pod("10.2.0.99", 1007), Pod("fd00:2::99", 1007)
"""A pod of the other node that the ipcache doesn't know yet."""


class Tunnel:
    """The other end of the node's uplink, where VXLAN packets of any make can be sent."""

    def __init__(self, here: Node) -> None:
        self.here = here
        with here.namespace.inside():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.bind(("beyond", 0))
        (link,) = here.namespace.netlink.get_links(here.devices["uplink"])
        self._mac = link.get("address")
        self._port = 0

    def send(self, outer: str, key: int, frame: bytes) -> None:
        """Send a frame as the packet of a node, under a tunnel's key."""
        head = Ether(dst=self._mac) / IP(src=outer, dst=NODE) / UDP(sport=50000, dport=8472, chksum=0)
        self._socket.send(bytes(head / VXLAN(vni=key, flags=8) / Raw(frame)))

    def event(self, outer: str, key: int, source: Pod, target: Pod) -> Event:
        """Send the first packet of a new flow and return what is reported about it."""
        self._port += 1
        self.send(outer, key, udp(source, target, 30000 + self._port))
        return self.reported()

    def reported(self) -> Event:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            for event in self.here.events():
                return event
            time.sleep(0.002)
        raise AssertionError("nothing was reported")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def tunnel() -> Iterator[Tunnel]:
    with node() as here:
        netlink = here.namespace.netlink
        netlink.addr("add", index=here.devices["uplink"], address=NODE, prefixlen=24)
        for device in ("uplink", "beyond", "overlay"):
            netlink.link("set", index=here.namespace.ifindex(device), state="up")
        populate(here)
        here.locate(THIRD_NODE, REMOTE_NODE, THIRD_NODE, routed=True)
        here.locate(FORMER, REMOTE_NODE, OTHER_NODE, routed=True)
        for gateway in ("10.2.0.1", "fd00:2::1"):
            here.locate(gateway, LABELLED_NODE, OTHER_NODE)
        for pod in (A, B):
            here.allow(pod, INGRESS)
        with here.namespace.inside():
            link = Link.attach(here.objects.program("from_overlay"), AttachType.TCX_INGRESS, here.devices["overlay"])
        made = Tunnel(here)
        yield made
        made.close()
        link.close()


class Sender(NamedTuple):
    """A claim: outer source, tunnel's key, inner source; and the identity that counts, or why the
    packet is dropped.
    """

    outer: str
    key: int
    source: Pod
    target: Pod
    identity: int = 0
    reason: int = 0


HONEST = {
    "a pod": Sender(OTHER_NODE, R.identity, R, A, R.identity),
    "a pod of IPv6": Sender(OTHER_NODE, R6.identity, R6, A6, R.identity),
    "a pod whose new identity its node knows first": Sender(OTHER_NODE, 1044, R, A, 1044),
    "a pod that only its block tells of": Sender(OTHER_NODE, FRESH.identity, FRESH, A, FRESH.identity),
    "a pod of IPv6 that only its block tells of": Sender(OTHER_NODE, FRESH.identity, FRESH6, A6, FRESH.identity),
    "a pod of a node that sends from another of its addresses": Sender(FORMER, R.identity, R, A, R.identity),
    "a host by its own address": Sender(OTHER_NODE, HOST, Pod(OTHER_NODE, HOST), A, REMOTE_NODE),
    "a host by its own address of IPv6": Sender(OTHER_NODE, HOST, Pod(OTHER_NODE6, HOST), A6, REMOTE_NODE),
    "a labelled host by its gateway": Sender(OTHER_NODE, HOST, Pod("10.2.0.1", HOST), A, LABELLED_NODE),
}
UNKNOWN, OWN, LOCAL, FALSE = (
    DropReason.UNKNOWN_SENDER,
    DropReason.OWN_SOURCE,
    DropReason.INVALID_SOURCE,
    DropReason.INVALID_IDENTITY,
)
FORGED = {
    "a stranger as a pod": Sender(STRANGER, R.identity, R, A, reason=UNKNOWN),
    "a stranger as a pod of IPv6": Sender(STRANGER, R.identity, R6, A6, reason=UNKNOWN),
    "a stranger as a node": Sender(STRANGER, HOST, Pod(OTHER_NODE, HOST), A, reason=UNKNOWN),
    "a stranger as himself": Sender(STRANGER, R.identity, Pod(STRANGER, 0), A, reason=UNKNOWN),
    "a stranger as a pod of a block": Sender(STRANGER, R.identity, FRESH, A, reason=UNKNOWN),
    "a node as a pod of another's": Sender(THIRD_NODE, R.identity, R, A, reason=UNKNOWN),
    "a node as a pod of another's block": Sender(THIRD_NODE, R.identity, FRESH, A, reason=UNKNOWN),
    "a node as another node": Sender(THIRD_NODE, HOST, Pod(OTHER_NODE, HOST), A, reason=UNKNOWN),
    "a node as the world": Sender(OTHER_NODE, R.identity, W, A, reason=UNKNOWN),
    "a node as a host behind an address that isn't its own": Sender(OTHER_NODE, HOST, R, A, reason=FALSE),
    "a node as a pod with its own address": Sender(OTHER_NODE, R.identity, Pod(OTHER_NODE, 0), A, reason=FALSE),
    "a pod as the world": Sender(OTHER_NODE, 2, R, A, reason=FALSE),
    "a pod as what is reserved": Sender(OTHER_NODE, 4, R, A, reason=FALSE),
    "a node as this one": Sender(OTHER_NODE, HOST, Pod(NODE, HOST), A, reason=OWN),
    "a node as this one by IPv6": Sender(OTHER_NODE, HOST, Pod(NODE6, HOST), A6, reason=OWN),
    "a node as this one's gateway": Sender(OTHER_NODE, HOST, Pod(GATEWAY, HOST), A, reason=OWN),
    "a node as this one's gateway of IPv6": Sender(OTHER_NODE, HOST, Pod(GATEWAY6, HOST), A6, reason=OWN),
    "a node as a pod of this one": Sender(OTHER_NODE, B.identity, B, A, reason=LOCAL),
    "a node as a pod of IPv6 of this one": Sender(OTHER_NODE, B.identity, B6, A6, reason=LOCAL),
}


@pytest.mark.parametrize("sender", HONEST.values(), ids=HONEST)
def test_a_sender_counts_whom_the_tables_have_behind_the_node_that_sent_it(tunnel: Tunnel, sender: Sender) -> None:
    event = tunnel.event(sender.outer, sender.key, sender.source, sender.target)
    assert (event.kind, event.reason) == (EventKind.VERDICT, 0)
    assert event.identity == (sender.identity, sender.target.identity)


@pytest.mark.parametrize("sender", FORGED.values(), ids=FORGED)
def test_a_forged_sender_is_dropped(tunnel: Tunnel, sender: Sender) -> None:
    event = tunnel.event(sender.outer, sender.key, sender.source, sender.target)
    assert (event.kind, event.reason) == (EventKind.DROP, sender.reason)


def test_a_known_flow_goes_on_from_whichever_address_of_its_node(tunnel: Tunnel) -> None:
    tunnel.send(OTHER_NODE, R.identity, udp(R, A, 43000))
    assert tunnel.reported().reason == 0
    for outer in (FORMER, OTHER_NODE, FORMER):
        tunnel.send(outer, R.identity, udp(R, A, 43000))
    tunnel.send(STRANGER, R.identity, udp(R, A, 43000))
    assert tunnel.reported().reason == UNKNOWN, "what came before made no news"


@pytest.mark.parametrize("outer", [STRANGER, THIRD_NODE])
def test_a_known_flow_goes_on_from_its_node_only(tunnel: Tunnel, outer: str) -> None:
    flow = tcp(R, A, 41000, flags="S")
    tunnel.send(OTHER_NODE, R.identity, flow)
    assert tunnel.reported().reason == 0
    tunnel.send(outer, R.identity, tcp(R, A, 41000))
    assert tunnel.reported().reason == UNKNOWN
    answer = tunnel.here.run("from_pod", tcp(A, R, 80, 41000, flags="SA"), "lxc1")
    assert answer.retval == 7, "the flow is still there"
    flows = [entry for key, entry in tunnel.here.flows.items() if 41000 in key.port]
    assert {side.tunnel for entry in flows for side in entry.side} == {0, 0xC0000202}
    for key in list(tunnel.here.flows.keys()):
        tunnel.here.flows.delete(key)


def test_no_packet_by_the_tunnel_redirects_a_flow_of_two_pods_here(tunnel: Tunnel) -> None:
    here = tunnel.here
    here.allow(A, EGRESS)
    assert here.run("from_pod", udp(A, B, 42000), "lxc1").retval == 7
    assert tunnel.reported().reason == 0
    before = [
        (side.ifindex, side.tunnel) for key, entry in here.flows.items() if 42000 in key.port for side in entry.side
    ]
    tunnel.send(OTHER_NODE, B.identity, udp(B, A, 53, 42000))
    assert tunnel.reported().reason == LOCAL
    after = [
        (side.ifindex, side.tunnel) for key, entry in here.flows.items() if 42000 in key.port for side in entry.side
    ]
    assert before == after
