"""Ends of packets: what the frame has behind the IP packet is never read."""

import pytest

from cilia.abi.enums import DropReason
from tests.bpf.datapath.packets import echo, fit, tcp, udp
from tests.bpf.datapath.rig import A6, B6, EGRESS, INGRESS, TC_ACT_REDIRECT, TC_ACT_SHOT, A, B, Node, Pod

FAMILIES = [(A, B, 16, 14 + 20), (A6, B6, 18, 14 + 40)]
"""Two pods, where the length stands in a frame, and where the header ends."""
IDS = ["IPv4", "IPv6"]
DESTINATION_OPTIONS = 60


@pytest.fixture
def open_port(here: Node) -> Node:
    """Let A reach B on TCP 80, UDP 53 and by ping."""
    for protocol, port in ((6, 80), (17, 53), (1, 8), (58, 128)):
        here.allow(A, EGRESS, B.identity, protocol, port)
        here.allow(B, INGRESS, A.identity, protocol, port)
    return here


def lengthened(frame: bytes, at: int, by: int) -> bytes:
    """Return a frame whose IP header gives so many bytes more than there are."""
    length = int.from_bytes(frame[at : at + 2], "big") + by
    return frame[:at] + length.to_bytes(2, "big") + frame[at + 2 :]


@pytest.mark.parametrize(("client", "server", "at", "header"), FAMILIES, ids=IDS)
@pytest.mark.parametrize("make", [tcp, udp, echo], ids=["tcp", "udp", "echo"])
def test_a_packet_is_carried_with_whatever_is_behind_it(
    open_port: Node, client: Pod, server: Pod, at: int, header: int, make: type
) -> None:
    frame = make(client, server) + b"padding"
    ran = open_port.run("from_pod", frame, "lxc1")
    assert (ran.retval, ran.packet[12:]) == (TC_ACT_REDIRECT, frame[12:])


@pytest.mark.parametrize(("client", "server", "at", "header"), FAMILIES, ids=IDS)
@pytest.mark.parametrize(("make", "bytes_read"), [(tcp, 20), (udp, 8), (echo, 8)], ids=["tcp", "udp", "echo"])
def test_a_header_that_reaches_behind_the_packet_is_not_read(
    open_port: Node, client: Pod, server: Pod, at: int, header: int, make: type, bytes_read: int
) -> None:
    whole = make(client, server)
    for inside in range(bytes_read):
        frame = fit(whole[: header + inside]) + whole[header + inside :]
        assert open_port.run("from_pod", frame, "lxc1").retval == TC_ACT_SHOT, inside
        assert [event.reason for event in open_port.events()] == [DropReason.INVALID_PACKET], inside


@pytest.mark.parametrize(("client", "server", "at", "header"), FAMILIES, ids=IDS)
@pytest.mark.parametrize("by", [1, 1000, 60_000])
def test_a_packet_that_says_it_is_longer_than_its_frame_is_dropped(
    open_port: Node, client: Pod, server: Pod, at: int, header: int, by: int
) -> None:
    frame = lengthened(tcp(client, server), at, by)
    assert open_port.run("from_pod", frame, "lxc1").retval == TC_ACT_SHOT
    assert [event.reason for event in open_port.events()] == [DropReason.INVALID_PACKET]


@pytest.mark.parametrize(("client", "server", "at", "header"), FAMILIES, ids=IDS)
@pytest.mark.parametrize("gso_size", [0, 1000], ids=["one packet", "offloaded"])
def test_a_packet_without_a_length_is_none(
    open_port: Node, client: Pod, server: Pod, at: int, header: int, gso_size: int
) -> None:
    frame = tcp(client, server)
    frame = frame[:at] + b"\0\0" + frame[at + 2 :]
    assert open_port.run("from_pod", frame, "lxc1", gso_size=gso_size).retval == TC_ACT_SHOT
    assert [event.reason for event in open_port.events()] == [DropReason.INVALID_PACKET]


def test_an_ipv4_header_longer_than_its_packet_is_dropped(open_port: Node) -> None:
    whole = tcp(A, B)
    frame = fit((whole[:14] + b"\x46" + whole[15:])[: 14 + 20]) + whole[14 + 20 :]
    assert open_port.run("from_pod", frame, "lxc1").retval == TC_ACT_SHOT
    assert [event.reason for event in open_port.events()] == [DropReason.INVALID_PACKET]


@pytest.mark.parametrize("length", range(8))
def test_an_extension_header_that_reaches_behind_the_packet_is_not_read(open_port: Node, length: int) -> None:
    whole = tcp(A6, B6)
    extended = whole[:20] + bytes((DESTINATION_OPTIONS,)) + whole[21:54] + bytes((6, 0, 1, 4, 0, 0, 0, 0))
    frame = fit(extended[: 54 + length]) + extended[54 + length :] + whole[54:]
    assert open_port.run("from_pod", frame, "lxc1").retval == TC_ACT_SHOT
    assert [event.reason for event in open_port.events()] == [DropReason.INVALID_PACKET]


def test_ports_behind_the_last_extension_header_of_a_first_fragment_are_not_its_own(open_port: Node) -> None:
    """The packet ends with its destination options; an allowed port follows in the frame, and the
    real header comes in the next fragment.
    """
    fragment = bytes((DESTINATION_OPTIONS, 0, 0, 1)) + b"\0\0\0\7"
    options = bytes((6, 0, 1, 4, 0, 0, 0, 0))
    whole = tcp(A6, B6)
    frame = fit(whole[:20] + bytes((44,)) + whole[21:54] + fragment + options) + whole[54:]
    assert open_port.run("from_pod", frame, "lxc1").retval == TC_ACT_SHOT
    assert [event.reason for event in open_port.events()] == [DropReason.INVALID_EXTENSION]
    assert open_port.fragments.items() == []
