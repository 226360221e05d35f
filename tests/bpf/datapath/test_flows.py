"""Packets between two pods of one node: verdicts, and what they leave in the maps."""

import pytest
from scapy.layers.inet import ICMP, TCP
from scapy.layers.l2 import ARP, Ether

from cilia.abi.enums import DropReason, EventKind, Hook
from cilia.abi.structs import Event
from tests.bpf.datapath.packets import arp, echo, error, sent, tcp, udp
from tests.bpf.datapath.rig import (
    EGRESS,
    GATEWAY,
    GATEWAY_MAC,
    INGRESS,
    TC_ACT_OK,
    TC_ACT_REDIRECT,
    TC_ACT_SHOT,
    A,
    B,
    Node,
    Pod,
    R,
)

POD = Hook.FROM_POD


def let(here: Node, client: Pod = A, server: Pod = B) -> None:
    """Let the client reach the server on TCP 80, UDP 53 and by ping."""
    for protocol, port in ((6, 80), (17, 53), (1, 8)):
        here.allow(client, EGRESS, server.identity, protocol, port)
        here.allow(server, INGRESS, client.identity, protocol, port)


def only_event(here: Node) -> Event:
    (event,) = here.events()
    return event


def assert_dropped(here: Node, program: str, packet: bytes, device: str, reason: int) -> Event:
    """Check that a packet is dropped, counted and reported for a reason; return the report."""
    hook = {"from_pod": Hook.FROM_POD, "to_pod": Hook.TO_POD, "from_overlay": Hook.FROM_OVERLAY}[program]
    before = here.counted(reason, hook)
    ran = here.run(program, packet, device)
    event = only_event(here)
    assert (ran.retval, ran.packet) == (TC_ACT_SHOT, packet)
    assert here.counted(reason, hook) == before + 1
    assert (event.kind, event.reason, event.hook, event.length) == (EventKind.DROP, reason, hook, len(packet))
    return event


@pytest.mark.parametrize(
    ("forward", "reply"),
    [
        (tcp(A, B, flags="S"), tcp(B, A, 80, 40000, flags="SA")),
        (udp(A, B), udp(B, A, 53, 40000)),
        (echo(A, B), echo(B, A, kind=0)),
    ],
    ids=["tcp", "udp", "echo"],
)
def test_a_flow_that_both_policies_allow_passes_in_both_directions(here: Node, forward: bytes, reply: bytes) -> None:
    let(here)
    there, back = here.run("from_pod", forward, "lxc1"), here.run("from_pod", reply, "lxc2")
    assert (there.retval, back.retval) == (TC_ACT_REDIRECT, TC_ACT_REDIRECT)
    assert there.packet == B.mac + GATEWAY_MAC + forward[12:]
    assert back.packet == A.mac + GATEWAY_MAC + reply[12:]
    event = only_event(here)
    assert (event.kind, event.reason, event.cookie) == (EventKind.VERDICT, 0, 7)
    assert event.identity == (A.identity, B.identity)
    assert event.endpoint == (A.id, B.id)


def test_an_entry_remembers_both_ends_and_counts_both_directions(here: Node) -> None:
    let(here)
    forward, reply = tcp(A, B, flags="S"), tcp(B, A, 80, 40000, flags="SA")
    here.run("from_pod", forward, "lxc1")
    here.run("from_pod", reply, "lxc2", repeat=3)
    key, entry = here.flow()
    assert (key.port, key.protocol) == ((40000, 80), 6)
    assert (entry.policy_slot, entry.identity, entry.initiator) == ((A.slot, B.slot), (A.identity, B.identity), 0)
    assert [side.packets for side in entry.side] == [1, 3]
    assert [side.bytes_ for side in entry.side] == [len(forward), 3 * len(reply)]
    assert [side.tcp_flags for side in entry.side] == [0x02, 0x12]
    assert [side.mac for side in entry.side] == [B.mac, A.mac]
    assert entry.side[0].source_ifindex == entry.side[1].ifindex == here.devices["lxc1"]
    assert entry.last_seen


def test_the_same_ports_in_the_other_direction_are_the_same_flow_under_one_key(here: Node) -> None:
    let(here, B, A)
    here.run("from_pod", tcp(B, A, flags="S"), "lxc2")
    key, entry = here.flow()
    assert key.port == (80, 40000)
    assert entry.initiator == 1


@pytest.mark.parametrize("side", [EGRESS, INGRESS])
def test_a_flow_that_one_end_does_not_allow_is_dropped_and_names_that_end(here: Node, side: int) -> None:
    if side == INGRESS:
        here.allow(A, EGRESS, B.identity)
    else:
        here.allow(B, INGRESS, A.identity)
    event = assert_dropped(here, "from_pod", tcp(A, B), "lxc1", DropReason.POLICY_DENIED)
    assert event.direction == side
    assert event.port == (40000, 80)
    assert here.flows.items() == []


def test_a_reply_without_a_flow_needs_a_policy_of_its_own(here: Node) -> None:
    let(here)
    assert_dropped(here, "from_pod", tcp(B, A, 80, 40000), "lxc2", DropReason.POLICY_DENIED)


def test_an_echo_reply_that_nobody_asked_for_is_dropped(here: Node) -> None:
    here.allow(B, EGRESS)
    here.allow(A, INGRESS)
    assert_dropped(here, "from_pod", echo(B, A, kind=0), "lxc2", DropReason.CT_INVALID)


@pytest.mark.parametrize("identifier", [0, 1, 0xFFFF])
def test_an_answer_to_a_ping_is_no_ping_the_other_way(here: Node, identifier: int) -> None:
    let(here)
    for _ in range(2):
        assert here.run("from_pod", echo(A, B, identifier=identifier), "lxc1").retval == TC_ACT_REDIRECT
        assert here.run("from_pod", echo(B, A, kind=0, identifier=identifier), "lxc2").retval == TC_ACT_REDIRECT
    here.events()
    assert_dropped(here, "from_pod", echo(B, A, identifier=identifier), "lxc2", DropReason.POLICY_DENIED)


@pytest.mark.parametrize("about", [tcp(A, B), udp(A, B), echo(A, B)], ids=["tcp", "udp", "echo"])
def test_an_icmp_error_follows_the_flow_that_it_is_about(here: Node, about: bytes) -> None:
    let(here)
    refusal = error(B, A, about)
    assert_dropped(here, "from_pod", refusal, "lxc2", DropReason.CT_INVALID)
    here.run("from_pod", about, "lxc1")
    here.events()
    ran = here.run("from_pod", refusal, "lxc2")
    assert (ran.retval, ran.packet) == (TC_ACT_REDIRECT, A.mac + GATEWAY_MAC + refusal[12:])
    assert here.events() == []


def test_an_icmp_error_about_a_packet_of_another_is_dropped(here: Node) -> None:
    let(here)
    here.run("from_pod", tcp(A, B), "lxc1")
    here.events()
    assert_dropped(here, "from_pod", error(B, A, tcp(B, A)), "lxc2", DropReason.CT_INVALID)
    assert_dropped(here, "from_pod", error(R, A, tcp(A, B)), "lxc2", DropReason.CT_INVALID)
    assert_dropped(here, "from_pod", error(B, A, tcp(A, B))[:60], "lxc2", DropReason.INVALID_PACKET)


IPX = bytes.fromhex("ffffffffffff") + A.mac + b"\x81\x37" + bytes(60)
SHORT_TCP = tcp(A, B)[:48]
SHORT_UDP = udp(A, B)[:38]
VERSION = tcp(A, B)[:14] + b"\x55" + tcp(A, B)[15:]
HEADER = tcp(A, B)[:14] + b"\x44" + tcp(A, B)[15:]


UNREADABLE = {
    "the other pod's source": (tcp(B, A), DropReason.INVALID_SOURCE),
    "a stranger's source": (tcp(R, B), DropReason.INVALID_SOURCE),
    "half a tcp header": (SHORT_TCP, DropReason.INVALID_PACKET),
    "half a udp header": (SHORT_UDP, DropReason.INVALID_PACKET),
    "ip version 5": (VERSION, DropReason.INVALID_PACKET),
    "ip header of 16 bytes": (HEADER, DropReason.INVALID_PACKET),
    "ipx": (IPX, DropReason.UNKNOWN_L3),
    "sctp": (sent(A, B, TCP(), proto=132), DropReason.UNKNOWN_L4),
    "icmp timestamp": (sent(A, B, ICMP(type=13)), DropReason.UNKNOWN_ICMP_TYPE),
    "first fragment": (sent(A, B, TCP(), bytes(12), flags="MF"), DropReason.POLICY_DENIED),
    "later fragment": (sent(A, B, TCP(), frag=5), DropReason.FRAGMENT_UNKNOWN),
    "arp for a stranger": (arp("10.1.0.77"), DropReason.UNKNOWN_TARGET),
    "arp reply of another": (arp(operation=2, sender=B), DropReason.INVALID_SOURCE),
    "reverse arp": (arp(operation=3), DropReason.INVALID_PACKET),
    "half an arp": (arp()[:40], DropReason.INVALID_PACKET),
}


@pytest.mark.parametrize(("packet", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_judged_is_dropped_with_its_own_reason(here: Node, packet: bytes, reason: int) -> None:
    assert_dropped(here, "from_pod", packet, "lxc1", reason)


def test_a_pod_cannot_continue_the_flow_of_another(here: Node) -> None:
    let(here)
    here.run("from_pod", tcp(A, B), "lxc1")
    here.events()
    assert_dropped(here, "from_pod", tcp(A, B), "lxc2", DropReason.INVALID_SOURCE)
    assert here.run("from_pod", tcp(A, B), "lxc1").retval == TC_ACT_REDIRECT


def test_ports_are_found_behind_ip_options(here: Node) -> None:
    let(here)
    packet = sent(A, B, TCP(sport=40000, dport=80), options=b"\x01" * 40)
    assert here.run("from_pod", packet, "lxc1").retval == TC_ACT_REDIRECT
    assert here.flow()[0].port == (40000, 80)


def test_a_pod_whose_address_is_known_without_being_here_is_not_searched_for_elsewhere(here: Node) -> None:
    here.allow(A, EGRESS)
    here.locate("10.1.0.50", 1007)
    gone = Pod("10.1.0.50", 1007)
    assert_dropped(here, "from_pod", tcp(A, gone), "lxc1", DropReason.NO_ENDPOINT)


def test_arp_for_the_gateway_is_answered_in_place(here: Node) -> None:
    ran = here.run("from_pod", arp(), "lxc1")
    answer = Ether(ran.packet)
    assert ran.retval == TC_ACT_REDIRECT
    assert (answer.dst, answer.src) == (A.mac.hex(":"), GATEWAY_MAC.hex(":"))
    assert (answer[ARP].op, answer[ARP].psrc, answer[ARP].pdst) == (2, GATEWAY, A.address)
    assert (answer[ARP].hwsrc, answer[ARP].hwdst) == (GATEWAY_MAC.hex(":"), A.mac.hex(":"))
    assert here.events() == []


def test_a_pods_answer_to_the_hosts_arp_passes(here: Node) -> None:
    assert here.run("from_pod", arp(operation=2), "lxc1").retval == TC_ACT_OK


def test_a_connection_that_begins_where_one_was_reset_starts_with_clean_flags(here: Node) -> None:
    let(here)
    here.run("from_pod", tcp(A, B, flags="S"), "lxc1")
    here.run("from_pod", tcp(B, A, 80, 40000, flags="R"), "lxc2")
    here.run("from_pod", tcp(A, B, flags="S"), "lxc1")
    assert [side.tcp_flags for side in here.flow()[1].side] == [0x02, 0]


def test_a_forwarded_packet_is_counted(here: Node) -> None:
    let(here)
    before = here.counted(0, POD)
    here.run("from_pod", tcp(A, B), "lxc1", repeat=5)
    assert here.counted(0, POD) == before + 5
