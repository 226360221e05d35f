"""Masquerading: the world sees the node's address and a port of ours; what comes back arrives."""

from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from cilia.abi.enums import DropReason
from tests.bpf.datapath.packets import echo, error, sent, tcp, udp
from tests.bpf.datapath.rig import (
    A6,
    EGRESS,
    GATEWAY_MAC,
    HOST,
    INGRESS,
    NODE,
    NODE6,
    OTHER_NODE,
    REMOTE_NODE,
    TC_ACT_REDIRECT,
    TC_ACT_SHOT,
    TC_ACT_UNSPEC,
    W6,
    A,
    B,
    Node,
    Pod,
    R,
    W,
    node,
    populate,
    prefix_key,
    reset,
)

FAMILIES = [(A, W, NODE), (A6, W6, NODE6)]
IDS = ["IPv4", "IPv6"]
FIRST, LAST = 61000, 61003
NODE_WITH_LABELS = 2 << 24 | 5


@pytest.fixture(scope="module")
def router() -> Iterator[Node]:
    with node(variables={"masquerades": 1}) as made:
        made.set_ports(FIRST, LAST)
        yield made


@pytest.fixture
def here(router: Node) -> Node:
    reset(router)
    populate(router)
    for pod in (A, B):
        router.allow(pod, EGRESS)
    return router


def whole(frame: bytes) -> Packet:
    """Return a frame as scapy reads it, after a check that it would write each checksum as it found
    it.
    """
    read = Ether(frame)
    for layer in (IP, TCP, UDP, ICMP, ICMPv6EchoRequest):
        if layer in read:
            forget_checksum(read[layer])
    assert bytes(read) == frame
    return Ether(frame)


def forget_checksum(layer: Packet) -> None:
    for name in ("chksum", "cksum"):
        if name in layer.fields:
            delattr(layer, name)


def out(here: Node, frame: bytes) -> Packet:
    """Send a pod's frame, first through its own program, then through the uplink's."""
    here.run("from_pod", frame, "lxc1")
    ran = here.run("to_uplink", frame, "uplink")
    assert ran.retval == TC_ACT_UNSPEC
    return whole(ran.packet)


def ends(packet: Packet) -> tuple[str, str]:
    layer = packet[IP] if IP in packet else packet[IPv6]
    return layer.src, layer.dst


@pytest.mark.parametrize(("pod", "world", "address"), FAMILIES, ids=IDS)
@pytest.mark.parametrize("make", [tcp, udp], ids=["tcp", "udp"])
def test_a_flow_leaves_with_the_nodes_address_and_its_answers_reach_the_pod(
    here: Node, pod: Pod, world: Pod, address: str, make: type
) -> None:
    packet = out(here, make(pod, world, 40000, 443))
    kind = TCP if make is tcp else UDP
    port = packet[kind].sport
    assert ends(packet) == (address, world.address)
    assert FIRST <= port <= LAST
    assert packet[kind].dport == 443
    back = here.run("from_uplink", make(world, Pod(address, HOST), 443, port), "uplink")
    answer = whole(back.packet)
    assert back.retval == TC_ACT_REDIRECT
    assert ends(answer) == (world.address, pod.address)
    assert (answer[kind].sport, answer[kind].dport) == (443, 40000)
    assert answer.dst == pod.mac.hex(":")


@pytest.mark.parametrize(("pod", "world", "address"), FAMILIES, ids=IDS)
def test_a_ping_keeps_its_answers_apart_by_identifier(here: Node, pod: Pod, world: Pod, address: str) -> None:
    packet = out(here, echo(pod, world))
    identifier = packet[ICMP].id if ICMP in packet else packet[ICMPv6EchoRequest].id
    assert ends(packet) == (address, world.address)
    assert FIRST <= identifier <= LAST
    back = here.run("from_uplink", echo(world, Pod(address, HOST), kind=0, identifier=identifier), "uplink")
    expected = echo(world, pod, kind=0)
    assert (back.retval, back.packet[14:]) == (TC_ACT_REDIRECT, expected[14:])


@pytest.mark.parametrize(("pod", "world", "address"), FAMILIES, ids=IDS)
def test_a_flow_keeps_its_port_and_another_gets_another(here: Node, pod: Pod, world: Pod, address: str) -> None:
    ports = [out(here, tcp(pod, world, port))[TCP].sport for port in (1, 1, 2, 2, 3, 3, 4, 4)]
    assert ports[::2] == ports[1::2]
    assert sorted(ports[::2]) == list(range(FIRST, LAST + 1))


def test_a_flow_for_which_no_port_is_left_is_dropped_and_other_destinations_have_ports(here: Node) -> None:
    for port in range(1, LAST - FIRST + 2):
        out(here, tcp(A, W, port))
    here.run("from_pod", tcp(A, W, 99), "lxc1")
    while here.events():
        pass
    assert here.run("to_uplink", tcp(A, W, 99), "uplink").retval == TC_ACT_SHOT
    (event,) = here.events()
    assert event.reason == DropReason.NAT_NO_PORT
    assert len(here.nat.items()) == 2 * (LAST - FIRST + 1)
    assert out(here, tcp(A, W, 99, 81))[TCP].sport >= FIRST


@pytest.mark.parametrize(("pod", "world", "address"), FAMILIES, ids=IDS)
def test_a_flow_that_has_ended_leaves_its_port_to_another(here: Node, pod: Pod, world: Pod, address: str) -> None:
    taken = {port: out(here, tcp(pod, world, port))[TCP].sport for port in range(1, LAST - FIRST + 2)}
    here.run("from_pod", tcp(pod, world, 2, flags="RA"), "lxc1")
    assert out(here, tcp(pod, world, 99))[TCP].sport == taken[2]
    assert out(here, tcp(pod, world, 1))[TCP].sport == taken[1]
    back = here.run("from_uplink", tcp(world, Pod(address, HOST), 80, taken[2]), "uplink")
    assert whole(back.packet)[TCP].dport == 99
    assert len(here.nat.items()) == 2 * (LAST - FIRST + 1)


@pytest.mark.parametrize(("pod", "world", "address"), FAMILIES, ids=IDS)
def test_the_port_of_a_flow_that_has_ended_rests_while_others_are_free(
    here: Node, pod: Pod, world: Pod, address: str
) -> None:
    ended = out(here, tcp(pod, world, 1))[TCP].sport
    here.run("from_pod", tcp(pod, world, 1, flags="RA"), "lxc1")
    others = {out(here, tcp(pod, world, port))[TCP].sport for port in range(2, LAST - FIRST + 2)}
    assert others == set(range(FIRST, LAST + 1)) - {ended}
    assert out(here, tcp(pod, world, 99))[TCP].sport == ended


@pytest.mark.parametrize(("pod", "world", "address"), FAMILIES, ids=IDS)
@pytest.mark.parametrize("make", [tcp, udp, echo], ids=["tcp", "udp", "echo"])
def test_an_error_from_the_way_names_the_pods_packet(
    here: Node, pod: Pod, world: Pod, address: str, make: type
) -> None:
    asked = make(pod, world)
    seen = bytes(out(here, asked))
    router = Pod("203.0.113.9" if pod is A else "2001:db8:9::9", 2)
    told = error(router, Pod(address, HOST), seen, kind=3 if pod is A else 2, code=4 if pod is A else 0)
    back = here.run("from_uplink", told, "uplink")
    expected = error(router, pod, asked, kind=3 if pod is A else 2, code=4 if pod is A else 0)
    assert back.retval == TC_ACT_REDIRECT
    assert back.packet[:12] == pod.mac + GATEWAY_MAC
    assert without_inner_checksum(back.packet, pod) == without_inner_checksum(expected, pod)


def without_inner_checksum(frame: bytes, pod: Pod) -> bytes:
    """Return an error from the IP header on, but for the checksum of the quoted ports, and its own
    that covers it.
    """
    data = bytearray(frame[14:])
    inner = 20 + 8 + 20 if pod is A else 40 + 8 + 40
    protocol = frame[14 + 28 + 9] if pod is A else frame[14 + 48 + 6]
    start = inner + {6: 16, 17: 6}.get(protocol, 2)
    data[start : start + 2] = b"\0\0"
    outer = 22 if pod is A else 42
    data[outer : outer + 2] = b"\0\0"
    return bytes(data)


def test_an_icmp_error_of_the_world_has_a_right_checksum(here: Node) -> None:
    seen = bytes(out(here, udp(A, W)))
    back = here.run("from_uplink", error(W, Pod(NODE, HOST), seen), "uplink").packet
    assert internet_sum(back[34:]) == 0xFFFF
    assert internet_sum(back[14:34]) == 0xFFFF
    assert internet_sum(back[42:62]) == 0xFFFF


def internet_sum(data: bytes) -> int:
    total = sum(int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_a_pods_own_error_about_an_answer_leaves_as_the_nodes(here: Node) -> None:
    port = out(here, udp(A, W, 40000, 53))[UDP].sport
    answer = udp(W, A, 53, 40000)
    refusal = here.run("to_uplink", error(A, W, answer), "uplink")
    packet = Ether(refusal.packet)
    assert (packet[IP].src, packet[IP].dst) == (NODE, W.address)
    quoted = IP(refusal.packet[42:])
    assert (quoted.dst, int.from_bytes(bytes(quoted)[22:24], "big")) == (NODE, port)
    assert internet_sum(refusal.packet[34:]) == 0xFFFF


@pytest.mark.parametrize(("pod", "world", "address"), FAMILIES, ids=IDS)
def test_excluded_destinations_see_the_pods_address(here: Node, pod: Pod, world: Pod, address: str) -> None:
    bits = ip_address(world.address).max_prefixlen
    here.non_masquerade.update(prefix_key(f"{world.address}/{bits}"), 1)
    frame = tcp(pod, world)
    assert bytes(out(here, frame)) == frame
    assert here.nat.items() == []


@pytest.mark.parametrize("identity", [REMOTE_NODE, NODE_WITH_LABELS], ids=["a node", "a node with labels"])
@pytest.mark.parametrize("is_native", [False, True], ids=["overlay", "native"])
def test_other_nodes_see_a_pods_address_where_it_is_routed(identity: int, is_native: bool) -> None:
    with node(variables={"masquerades": 1, "is_native": is_native}, has_overlay=not is_native) as here:
        populate(here)
        here.allow(A, EGRESS)
        here.locate(OTHER_NODE, identity)
        source, _ = ends(out(here, tcp(A, Pod(OTHER_NODE, identity))))
    assert source == (A.address if is_native else NODE)


def test_pods_and_hosts_own_packets_are_left_alone(here: Node) -> None:
    for frame in (tcp(A, R), tcp(Pod(NODE, HOST), W), udp(Pod(NODE, HOST), Pod(OTHER_NODE, 6), 8472, 8472)):
        assert here.run("to_uplink", frame, "uplink").packet == frame
    assert here.nat.items() == []


def test_what_comes_for_the_host_is_the_hosts(here: Node) -> None:
    out(here, tcp(A, W, 40000, 80))
    for frame in (tcp(W, Pod(NODE, HOST), 80, 22), tcp(Pod("203.0.113.1", 2), Pod(NODE, HOST), 80, FIRST)):
        ran = here.run("from_uplink", frame, "uplink")
        assert (ran.retval, ran.packet) == (TC_ACT_UNSPEC, frame)


def test_who_was_reached_by_its_own_address_answers_from_it(here: Node) -> None:
    here.allow(A, INGRESS)
    assert here.run("from_uplink", tcp(W, A, 40000, 80, "S"), "uplink").retval == TC_ACT_REDIRECT
    answer = tcp(A, W, 80, 40000, "SA")
    assert bytes(out(here, answer)) == answer


@pytest.mark.parametrize("source", [B, R], ids=["a pod of this node", "a pod of another node"])
def test_nobody_comes_by_the_uplink_with_the_address_of_a_pod(here: Node, source: Pod) -> None:
    here.allow(A, INGRESS)
    assert here.run("from_uplink", tcp(source, A), "uplink").retval == TC_ACT_SHOT
    assert here.events()[-1].reason == DropReason.INVALID_SOURCE


def test_later_fragments_get_the_same_address(here: Node) -> None:
    first = sent(A, W, UDP(sport=40000, dport=53), bytes(24), flags="MF", id=5)
    later = sent(A, W, Raw(b"x" * 16), b"", frag=4, id=5, proto=17)
    out(here, first)
    here.run("from_pod", later, "lxc1")
    ran = here.run("to_uplink", later, "uplink")
    assert ran.retval == TC_ACT_UNSPEC
    assert Ether(ran.packet)[IP].src == NODE
    assert ran.packet[34:] == later[34:]
    assert internet_sum(ran.packet[14:34]) == 0xFFFF


def fragments_of_an_answer(source: str, port: int) -> tuple[bytes, bytes]:
    """Return an answer to a port of the node, in two parts."""
    speaker, target = Pod(source, 2), Pod(NODE, HOST)
    first = sent(speaker, target, UDP(sport=53, dport=port, len=48), bytes(24), flags="MF", id=9)
    return first, sent(speaker, target, Raw(bytes(16)), b"", frag=4, id=9, proto=17)


def test_fragments_of_an_answer_come_back(here: Node) -> None:
    port = out(here, udp(A, W, 40000, 53))[UDP].sport
    for part in fragments_of_an_answer(W.address, port):
        ran = here.run("from_uplink", part, "uplink")
        assert ran.retval == TC_ACT_REDIRECT
        assert Ether(ran.packet)[IP].dst == A.address
    assert len(here.fragments.items()) == 1


def test_fragments_from_outside_that_nobody_asked_for_take_no_room(here: Node) -> None:
    port = out(here, udp(A, W, 40000, 53))[UDP].sport
    first, later = fragments_of_an_answer("203.0.113.9", port)
    assert here.run("from_uplink", first, "uplink").retval == TC_ACT_UNSPEC
    assert here.run("from_uplink", later, "uplink").retval == TC_ACT_UNSPEC
    assert here.fragments.items() == []


def test_a_fragment_whose_flow_is_closed_meanwhile_takes_no_room(here: Node) -> None:
    port = out(here, udp(A, W, 40000, 53))[UDP].sport
    here.realise(A.slot, 2, entry_set=1)
    first, _ = fragments_of_an_answer(W.address, port)
    assert here.run("from_uplink", first, "uplink").retval == TC_ACT_SHOT
    assert here.fragments.items() == []


UNREADABLE = {
    "a fragment without its first": (
        sent(A, W, Raw(bytes(16)), b"", frag=4, id=6, proto=17),
        DropReason.FRAGMENT_UNKNOWN,
    ),
    "an unknown ICMP": (sent(A, W, ICMP(type=5)), DropReason.UNKNOWN_ICMP_TYPE),
    "a neighbour advertisement": (sent(A6, W6, Raw(b"\x88" + bytes(23)), nh=58), DropReason.UNKNOWN_ICMP_TYPE),
    "half a header": (tcp(A, W)[:40], DropReason.INVALID_PACKET),
}


@pytest.mark.parametrize(("packet", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_have_the_nodes_address_does_not_leave(here: Node, packet: bytes, reason: int) -> None:
    assert here.run("to_uplink", packet, "uplink").retval == TC_ACT_SHOT
    (event,) = here.events()
    assert (event.reason, event.endpoint) == (reason, (A.id, 0))


def test_what_cannot_be_read_leaves_where_pods_are_known_and_from_the_host(here: Node) -> None:
    here.non_masquerade.update(prefix_key(f"{W.address}/32"), 1)
    part = Raw(bytes(16))
    for source in (A, Pod(NODE, HOST)):
        frame = sent(source, W, part, b"", frag=4, id=6, proto=17)
        ran = here.run("to_uplink", frame, "uplink")
        assert (ran.retval, ran.packet) == (TC_ACT_UNSPEC, frame)
    assert here.events() == []
