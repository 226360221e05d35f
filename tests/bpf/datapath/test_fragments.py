"""Fragments: the first has the whole header, and no other reaches over it."""

import pytest
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.layers.inet6 import IPv6ExtHdrFragment
from scapy.packet import Packet, Raw

from cilia.abi.enums import DropReason
from tests.bpf.datapath.packets import error, fit, is_ipv6, sent, tcp
from tests.bpf.datapath.rig import A6, B6, EGRESS, INGRESS, TC_ACT_REDIRECT, TC_ACT_SHOT, A, B, Node, Pod

FAMILIES = [(A, B), (A6, B6)]
IDS = ["IPv4", "IPv6"]
PARTS = {4: 14 + 20, 6: 14 + 40 + 8}
"""Offset of a fragment's payload in its frame."""


@pytest.fixture
def open_port(here: Node) -> Node:
    """Let A reach B on TCP 80 and UDP 53."""
    for protocol, port in ((6, 80), (17, 53)):
        here.allow(A, EGRESS, B.identity, protocol, port)
        here.allow(B, INGRESS, A.identity, protocol, port)
    return here


def fragment(ends: tuple[Pod, Pod], layer: Packet, start: int = 0, *, more: bool = True, protocol: int = 17) -> bytes:
    """Return a fragment whose payload begins ``start`` units of 8 bytes into the whole one's."""
    source, destination = ends
    if is_ipv6(source):
        header = IPv6ExtHdrFragment(id=7, offset=start, m=int(more), nh=protocol)
        return sent(source, destination, header / layer, b"")
    return sent(source, destination, layer, b"", id=7, frag=start, flags="MF" if more else 0, proto=protocol)


def reason_of(here: Node, frame: bytes) -> int:
    """Return why a packet of A is dropped; 0: it is not."""
    ran = here.run("from_pod", frame, "lxc1")
    reasons = [event.reason for event in here.events() if event.reason]
    assert ran.retval == (TC_ACT_SHOT if reasons else TC_ACT_REDIRECT)
    return sum(reasons)


def datagram(payload: int) -> Packet:
    return UDP(sport=40000, dport=53, len=1000) / Raw(bytes(payload))


def segment(payload: int, **fields: object) -> Packet:
    return TCP(sport=40000, dport=80, **fields) / Raw(bytes(payload))


@pytest.mark.parametrize("ends", FAMILIES, ids=IDS)
@pytest.mark.parametrize(
    ("protocol", "whole", "header"),
    [(17, datagram(24), 8), (6, segment(12), 24), (6, segment(16, options=[("NOP", None)] * 20), 40)],
    ids=["udp", "tcp", "tcp with options"],
)
def test_a_first_fragment_without_its_whole_header_is_dropped(
    open_port: Node, ends: tuple[Pod, Pod], protocol: int, whole: Packet, header: int
) -> None:
    frame = fragment(ends, whole, protocol=protocol)
    start = PARTS[6 if is_ipv6(ends[0]) else 4]
    for length in range(8, header, 8):
        assert reason_of(open_port, fit(frame[: start + length])) == DropReason.INVALID_FRAGMENT, length
    assert open_port.fragments.items() == []
    assert reason_of(open_port, fit(frame[: start + header])) == 0
    assert len(open_port.fragments.items()) == 1


@pytest.mark.parametrize("ends", FAMILIES, ids=IDS)
@pytest.mark.parametrize(("protocol", "first"), [(17, datagram(24)), (6, segment(12))], ids=["udp", "tcp"])
def test_a_fragment_that_reaches_over_the_first_is_dropped(
    open_port: Node, ends: tuple[Pod, Pod], protocol: int, first: Packet
) -> None:
    assert reason_of(open_port, fragment(ends, first, protocol=protocol)) == 0
    units = 4
    for start in range(1, units):
        later = fragment(ends, Raw(bytes(16)), start, protocol=protocol)
        assert reason_of(open_port, later) == DropReason.INVALID_FRAGMENT, start
    assert reason_of(open_port, fragment(ends, Raw(bytes(16)), units, protocol=protocol)) == 0


LENGTHS = {
    "nothing": (Raw(b""), 4, False),
    "nothing, and more to come": (Raw(b""), 4, True),
    "no multiple of 8 bytes, and more to come": (Raw(bytes(15)), 4, True),
    "more than the longest packet has": (Raw(bytes(16)), 8191, False),
}


@pytest.mark.parametrize("ends", FAMILIES, ids=IDS)
@pytest.mark.parametrize(("layer", "start", "more"), LENGTHS.values(), ids=LENGTHS)
def test_a_fragment_of_a_length_that_none_has_is_dropped(
    open_port: Node, ends: tuple[Pod, Pod], layer: Packet, start: int, more: bool
) -> None:
    assert reason_of(open_port, fragment(ends, datagram(24))) == 0
    assert reason_of(open_port, fragment(ends, layer, start, more=more)) == DropReason.INVALID_FRAGMENT


@pytest.mark.parametrize("ends", FAMILIES, ids=IDS)
def test_a_fragment_before_the_first_is_dropped_for_a_reason_of_its_own(open_port: Node, ends: tuple[Pod, Pod]) -> None:
    later = fragment(ends, Raw(bytes(8)), 4, more=False)
    assert reason_of(open_port, later) == DropReason.FRAGMENT_UNKNOWN
    assert reason_of(open_port, fragment(ends, datagram(24))) == 0
    assert reason_of(open_port, later) == 0


@pytest.mark.parametrize("ends", FAMILIES, ids=IDS)
def test_what_is_denied_leaves_no_ports_for_later_fragments(open_port: Node, ends: tuple[Pod, Pod]) -> None:
    first = fragment(ends, UDP(sport=40000, dport=99, len=1000) / Raw(bytes(24)))
    assert reason_of(open_port, first) == DropReason.POLICY_DENIED
    assert reason_of(open_port, fragment(ends, Raw(bytes(8)), 4, more=False)) == DropReason.FRAGMENT_UNKNOWN


@pytest.mark.parametrize("ends", FAMILIES, ids=IDS)
def test_an_error_in_fragments_is_none(open_port: Node, ends: tuple[Pod, Pod]) -> None:
    source, destination = ends
    whole = error(source, destination, tcp(destination, source))
    part = whole[PARTS[4] :] if not is_ipv6(source) else whole[54:]
    frame = fragment(ends, Raw(part[:24]), protocol=58 if is_ipv6(source) else 1)
    assert reason_of(open_port, frame) == DropReason.FRAGMENT


def test_a_later_fragment_of_a_ping_has_the_pings_flow(here: Node) -> None:
    here.allow(A, EGRESS, B.identity, 1, 8)
    here.allow(B, INGRESS, A.identity, 1, 8)
    assert reason_of(here, fragment((A, B), ICMP(id=5) / Raw(bytes(8)), protocol=1)) == 0
    assert reason_of(here, fragment((A, B), Raw(bytes(8)), 2, more=False, protocol=1)) == 0
    assert [side.packets for side in here.flow()[1].side] == [2, 0]
