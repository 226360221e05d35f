"""A node that masquerades by a few ports, for tests that fill them; what pods send, and time."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from cilia.abi.structs import CtEntry, NatEntry, NatKey
from cilia.datapath.clock import TICKS_PER_SECOND, TICKS_WRAP
from cilia.datapath.maps import Map
from tests.bpf.datapath.rig import A6, EGRESS, HOST, NODE, NODE6, W6, A, B, Node, Pod, W, node, populate, reset

FIRST, LAST = 5000, 5003
PORTS = set(range(FIRST, LAST + 1))
FAMILIES = [(A, W, Pod(NODE, HOST)), (A6, W6, Pod(NODE6, HOST))]
IDS = ["IPv4", "IPv6"]


@contextmanager
def router(**variables: int) -> Iterator[Node]:
    """Load a node that masquerades by the ports from FIRST to LAST."""
    with node(variables={"masquerades": 1, "ticks_per_second": TICKS_PER_SECOND, **variables}) as made:
        made.set_ports(FIRST, LAST)
        yield made


def renewed(router: Node) -> Node:
    """Return the node as it was at first, with both pods allowed to send."""
    reset(router)
    populate(router)
    for pod in (A, B):
        router.allow(pod, EGRESS)
    router.set_ports(FIRST, LAST)
    return router


def send(here: Node, frame: bytes, pod: Pod = A) -> int:
    """Send a pod's frame, first through its own program, then through the uplink's; returns its
    port, or identifier, outside, or 0 if it was dropped there.
    """
    here.run("from_pod", frame, pod.device)
    ran = here.run("to_uplink", frame, "uplink")
    return port_of(Ether(ran.packet)) if ran.retval == 0xFFFF_FFFF else 0


def port_of(packet: Packet) -> int:
    for layer, name in (
        (TCP, "sport"),
        (UDP, "sport"),
        (ICMPv6EchoRequest, "id"),
        (ICMPv6EchoReply, "id"),
        (ICMP, "id"),
    ):
        if layer in packet:
            return int(getattr(packet[layer], name))
    raise AssertionError(packet)


def destination_of(frame: bytes) -> str:
    packet = Ether(frame)
    return str((packet[IP] if IP in packet else packet[IPv6]).dst)


def receive(here: Node, frame: bytes) -> str:
    """Have a frame come by the uplink; returns whose it is then, by address."""
    return destination_of(here.run("from_uplink", frame, "uplink").packet)


def idle(here: Node, seconds: float, is_chosen: Callable[[Any], bool] = lambda key: True) -> None:
    """Have flows, chosen by their keys, be silent for longer than they are."""
    tables: list[Map[Any, CtEntry]] = [here.flows, here.flows6]
    for table in tables:
        for key, entry in table.items():
            if is_chosen(key):
                past = (entry.last_seen - round(seconds * TICKS_PER_SECOND)) % TICKS_WRAP
                table.update(key, entry._replace(last_seen=past))


def pass_checks(here: Node, seconds: float) -> None:
    """Have mappings, and echos of the node, be unchecked for longer than they are."""
    for key, entry in here.nat.items():
        past = (entry.checked - round(seconds * TICKS_PER_SECOND)) % TICKS_WRAP
        here.nat.update(key, entry._replace(checked=past))


def mappings(here: Node) -> Mapping[NatKey, NatEntry]:
    """Return what pods send and is mapped."""
    return {key: entry for key, entry in here.nat.items() if not key.is_reply}
