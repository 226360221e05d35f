"""IPv6: flows between pods, neighbour discovery, extension headers and fragments."""

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from cilia.abi.enums import DropReason, EventKind, Hook
from tests.bpf.datapath.packets import advertisement, echo, error, network, sent, solicitation, tcp, udp
from tests.bpf.datapath.rig import (
    A6,
    B6,
    EGRESS,
    GATEWAY6,
    GATEWAY_MAC,
    HOST,
    INGRESS,
    NODE6,
    R6,
    TC_ACT_OK,
    TC_ACT_REDIRECT,
    TC_ACT_SHOT,
    W6,
    Node,
    Pod,
    mapped,
)

THIS_NODE, ITS_GATEWAY = Pod(NODE6, HOST), Pod(GATEWAY6, HOST)


def let(here: Node) -> None:
    """Let A reach B on TCP 80, UDP 53 and by ping."""
    for protocol, port in ((6, 80), (17, 53), (58, 128)):
        here.allow(A6, EGRESS, B6.identity, protocol, port)
        here.allow(B6, INGRESS, A6.identity, protocol, port)


def reason_of(here: Node, program: str, packet: bytes, device: str) -> int:
    """Return why a packet is dropped; it leaves as it came."""
    ran = here.run(program, packet, device)
    assert (ran.retval, ran.packet) == (TC_ACT_SHOT, packet)
    (event,) = here.events()
    assert event.family == 6
    return event.reason


FLOWS = {
    "tcp": (tcp(A6, B6, flags="S"), tcp(B6, A6, 80, 40000, flags="SA")),
    "udp": (udp(A6, B6), udp(B6, A6, 53, 40000)),
    "echo": (echo(A6, B6), echo(B6, A6, kind=0)),
}


@pytest.mark.parametrize(("forward", "reply"), FLOWS.values(), ids=FLOWS)
def test_a_flow_that_both_policies_allow_passes_in_both_directions(here: Node, forward: bytes, reply: bytes) -> None:
    let(here)
    there, back = here.run("from_pod", forward, "lxc1"), here.run("from_pod", reply, "lxc2")
    assert (there.retval, back.retval) == (TC_ACT_REDIRECT, TC_ACT_REDIRECT)
    assert there.packet == B6.mac + GATEWAY_MAC + forward[12:]
    assert back.packet == A6.mac + GATEWAY_MAC + reply[12:]
    (event,) = here.events()
    assert (event.kind, event.family, event.identity) == (EventKind.VERDICT, 6, (A6.identity, B6.identity))
    assert (event.source, event.destination) == (mapped(A6.address), mapped(B6.address))


@pytest.mark.parametrize(("forward", "reply"), FLOWS.values(), ids=FLOWS)
def test_an_entry_counts_both_directions(here: Node, forward: bytes, reply: bytes) -> None:
    let(here)
    here.run("from_pod", forward, "lxc1")
    here.run("from_pod", reply, "lxc2", repeat=3)
    key, entry = here.flow6()
    assert key.address == (mapped(A6.address), mapped(B6.address))
    assert [side.packets for side in entry.side] == [1, 3]
    assert [side.bytes_ for side in entry.side] == [len(forward), 3 * len(reply)]
    assert [side.mac for side in entry.side] == [B6.mac, A6.mac]
    assert here.flows.items() == []


@pytest.mark.parametrize("packet", [pair[0] for pair in FLOWS.values()], ids=FLOWS)
def test_what_no_rule_allows_is_dropped(here: Node, packet: bytes) -> None:
    assert reason_of(here, "from_pod", packet, "lxc1") == DropReason.POLICY_DENIED
    assert here.flows6.items() == []


def test_an_echo_reply_that_nobody_asked_for_is_dropped(here: Node) -> None:
    here.allow(B6, EGRESS)
    here.allow(A6, INGRESS)
    assert reason_of(here, "from_pod", echo(B6, A6, kind=0), "lxc2") == DropReason.CT_INVALID


@pytest.mark.parametrize("about", [pair[0] for pair in FLOWS.values()], ids=FLOWS)
@pytest.mark.parametrize("kind", [1, 2, 3, 4], ids=["unreachable", "too big", "time exceeded", "parameter"])
def test_an_error_follows_the_flow_that_it_is_about(here: Node, about: bytes, kind: int) -> None:
    let(here)
    told = error(B6, A6, about, kind=kind, code=0)
    assert reason_of(here, "from_pod", told, "lxc2") == DropReason.CT_INVALID
    here.run("from_pod", about, "lxc1")
    here.events()
    ran = here.run("from_pod", told, "lxc2")
    assert (ran.retval, ran.packet) == (TC_ACT_REDIRECT, A6.mac + GATEWAY_MAC + told[12:])
    assert here.events() == []


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_a_router_on_the_way_can_say_so_too(here: Node, kind: int) -> None:
    here.allow(A6, EGRESS)
    here.run("from_pod", udp(A6, W6), "lxc1")
    told = error(Pod("2001:db8:9::9", 2), A6, udp(A6, W6), kind=kind)
    assert here.run("to_pod", told, "lxc1").retval == TC_ACT_OK


@pytest.mark.parametrize("with_mac", [True, False])
def test_a_solicitation_for_the_gateway_is_answered_in_place(here: Node, with_mac: bool) -> None:
    ran = here.run("from_pod", solicitation(with_mac=with_mac), "lxc1")
    mac = GATEWAY_MAC.hex(":")
    expected = (
        Ether(src=mac, dst=A6.mac.hex(":"))
        / IPv6(src=GATEWAY6, dst=A6.address, hlim=255)
        / ICMPv6ND_NA(tgt=GATEWAY6, R=1, S=1, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=mac)
    )
    assert (ran.retval, ran.packet) == (TC_ACT_REDIRECT, bytes(expected))
    assert here.events() == []


CONTROL = {
    "a solicitation for a pod": (solicitation(B6.address), DropReason.UNKNOWN_TARGET),
    "a solicitation for a stranger": (solicitation("fd00:1::77"), DropReason.UNKNOWN_TARGET),
    "an advertisement of another": (advertisement(B6), DropReason.INVALID_SOURCE),
    "half a solicitation": (solicitation(with_mac=False)[:70], DropReason.INVALID_PACKET),
    "half a header": (tcp(A6, B6)[:54], DropReason.INVALID_PACKET),
    "half a tcp header": (tcp(A6, B6)[:70], DropReason.INVALID_PACKET),
    "half a udp header": (udp(A6, B6)[:60], DropReason.INVALID_PACKET),
    "version 4": (tcp(A6, B6)[:14] + b"\x40" + tcp(A6, B6)[15:], DropReason.INVALID_PACKET),
    "icmp of ipv4": (sent(A6, B6, Raw(bytes(8)), nh=1), DropReason.UNKNOWN_L4),
    "sctp": (sent(A6, B6, Raw(bytes(20)), nh=132), DropReason.UNKNOWN_L4),
    "no next header": (sent(A6, B6, Raw(bytes(20)), nh=59), DropReason.UNKNOWN_L4),
    "a strange icmp": (sent(A6, B6, Raw(b"\xc8" + bytes(7)), nh=58), DropReason.UNKNOWN_ICMP_TYPE),
    "another's address": (tcp(B6, A6), DropReason.INVALID_SOURCE),
    "another's mac": (tcp(A6._replace(mac=B6.mac), B6), DropReason.INVALID_MAC),
    "to the tunnel": (udp(A6, R6, 40000, 8472), DropReason.ENCAP_PROHIBITED),
    "a later fragment alone": (
        sent(A6, B6, IPv6ExtHdrFragment(offset=3, id=1, nh=17), bytes(16)),
        DropReason.FRAGMENT_UNKNOWN,
    ),
}


@pytest.mark.parametrize(("packet", "reason"), CONTROL.values(), ids=CONTROL)
def test_what_cannot_be_judged_is_dropped_with_its_own_reason(here: Node, packet: bytes, reason: int) -> None:
    assert reason_of(here, "from_pod", packet, "lxc1") == reason


CHATTER = {
    "router solicitation": bytes(Ether(src=A6.mac.hex(":")) / IPv6(src=A6.address, dst="ff02::2") / ICMPv6ND_RS()),
    "multicast report": bytes(
        Ether(src=A6.mac.hex(":")) / IPv6(src=A6.address, dst="ff02::16") / IPv6ExtHdrHopByHop() / ICMPv6MLReport2()
    ),
    "duplicate address detection": solicitation(A6.address, A6._replace(address="::"), with_mac=False),
}


@pytest.mark.parametrize("packet", CHATTER.values(), ids=CHATTER)
def test_what_links_say_when_they_come_up_is_counted_and_not_reported(here: Node, packet: bytes) -> None:
    before = here.counted(DropReason.UNKNOWN_ICMP_TYPE, Hook.FROM_POD)
    assert here.run("from_pod", packet, "lxc1").retval == TC_ACT_SHOT
    assert here.counted(DropReason.UNKNOWN_ICMP_TYPE, Hook.FROM_POD) == before + 1
    assert here.events() == []


@pytest.mark.parametrize(
    ("program", "hook", "device"), [("to_pod", Hook.TO_POD, "lxc1"), ("to_overlay", Hook.TO_OVERLAY, "overlay")]
)
def test_what_the_host_says_on_its_own_links_is_not_reported_either(
    here: Node, program: str, hook: Hook, device: str
) -> None:
    before = here.counted(DropReason.UNKNOWN_ICMP_TYPE, hook)
    assert here.run(program, CHATTER["multicast report"], device).retval == TC_ACT_SHOT
    assert here.counted(DropReason.UNKNOWN_ICMP_TYPE, hook) == before + 1
    assert here.events() == []


def test_neighbour_discovery_between_host_and_pod_passes(here: Node) -> None:
    assert here.run("from_pod", advertisement(), "lxc1").retval == TC_ACT_OK
    assert here.run("to_pod", solicitation(A6.address, ITS_GATEWAY._replace(mac=GATEWAY_MAC)), "lxc1").retval == 0


def behind(*extensions: Packet, layer: Packet, payload: int = 10) -> bytes:
    """Return a frame from A to B with extension headers and so many bytes of payload."""
    packet = network(A6, B6)
    for extension in extensions:
        packet /= extension
    return bytes(Ether(src=A6.mac.hex(":"), dst="02:00:00:00:00:99") / packet / layer / Raw(bytes(payload)))


EXTENSIONS = {
    "hop by hop": (IPv6ExtHdrHopByHop(),),
    "destination": (IPv6ExtHdrDestOpt(),),
    "both": (IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt()),
    "atomic fragment": (IPv6ExtHdrFragment(id=1),),
    "four": (IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(), IPv6ExtHdrDestOpt(), IPv6ExtHdrFragment(id=1)),
}


@pytest.mark.parametrize("extensions", EXTENSIONS.values(), ids=EXTENSIONS)
def test_ports_are_found_behind_extension_headers(here: Node, extensions: tuple[Packet, ...]) -> None:
    let(here)
    frame = behind(*extensions, layer=TCP(sport=40000, dport=80))
    ran = here.run("from_pod", frame, "lxc1")
    assert (ran.retval, ran.packet[12:]) == (TC_ACT_REDIRECT, frame[12:])
    assert here.flow6()[0].port == (40000, 80)


@pytest.mark.parametrize(
    "extensions",
    [
        (IPv6ExtHdrDestOpt(),) * 5,
        (IPv6ExtHdrFragment(id=1), IPv6ExtHdrFragment(id=1)),
        (IPv6ExtHdrRouting(addresses=["fd00::1"]),),
        (IPv6ExtHdrFragment(id=1), IPv6ExtHdrDestOpt()),
    ],
    ids=["five", "two fragment headers", "a routing header", "one behind a fragment header"],
)
def test_extension_headers_that_hide_what_follows_are_refused(here: Node, extensions: tuple[Packet, ...]) -> None:
    let(here)
    frame = behind(*extensions, layer=TCP(sport=40000, dport=80))
    assert reason_of(here, "from_pod", frame, "lxc1") == DropReason.INVALID_EXTENSION


def test_fragments_follow_the_first(here: Node) -> None:
    let(here)
    first = behind(IPv6ExtHdrFragment(id=7, m=1), layer=UDP(sport=40000, dport=53, len=32), payload=16)
    later = sent(A6, B6, IPv6ExtHdrFragment(id=7, offset=3, nh=17), b"01234567")
    other = sent(A6, B6, IPv6ExtHdrFragment(id=8, offset=3, nh=17), b"01234567")
    assert here.run("from_pod", first, "lxc1").retval == TC_ACT_REDIRECT
    assert here.run("from_pod", later, "lxc1").retval == TC_ACT_REDIRECT
    assert here.flow6()[1].side[0].packets == 2
    here.events()
    assert reason_of(here, "from_pod", other, "lxc1") == DropReason.FRAGMENT_UNKNOWN


@pytest.mark.parametrize("target", [THIS_NODE, ITS_GATEWAY, W6], ids=["node", "gateway", "world"])
def test_the_host_and_the_world_are_reached_through_the_stack_if_policy_allows_it(here: Node, target: Pod) -> None:
    assert reason_of(here, "from_pod", tcp(A6, target), "lxc1") == DropReason.POLICY_DENIED
    here.allow(A6, EGRESS, target.identity, 6, 80)
    assert here.run("from_pod", tcp(A6, target), "lxc1").retval == TC_ACT_OK
    assert here.run("to_pod", tcp(target, A6, 80, 40000), "lxc1").retval == TC_ACT_OK


@pytest.mark.parametrize("source", [THIS_NODE, W6], ids=["node", "world"])
def test_what_the_stack_sends_to_a_pod_meets_its_ingress_policy(here: Node, source: Pod) -> None:
    assert reason_of(here, "to_pod", tcp(source, A6), "lxc1") == DropReason.POLICY_DENIED
    here.allow(A6, INGRESS, source.identity, 6, 80)
    assert here.run("to_pod", tcp(source, A6), "lxc1").retval == TC_ACT_OK


def test_a_pod_of_another_node_is_reached_through_the_overlay(here: Node) -> None:
    here.allow(A6, EGRESS, R6.identity, 6, 80)
    ran = here.run("from_pod", tcp(A6, R6), "lxc1")
    assert (ran.retval, ran.packet) == (TC_ACT_REDIRECT, tcp(A6, R6))
    assert here.flow6()[1].side[0].tunnel
