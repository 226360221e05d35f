"""Front path: a plain packet of an established flow fares as by the long way, and what is stamped
is believed for exactly as long as the word of changes says.
"""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

import pytest
from scapy.layers.inet import IP, TCP, UDP

from cilia.abi.enums import ChangePart, Hook, Outcome
from cilia.abi.structs import CtEntry, Event
from cilia.datapath.clock import TICKS_PER_SECOND
from tests.bpf.datapath.packets import echo, sent, tcp, udp
from tests.bpf.datapath.rig import (
    A6,
    B6,
    EGRESS,
    INGRESS,
    TC_ACT_REDIRECT,
    TC_ACT_SHOT,
    A,
    B,
    Node,
    Pod,
    R,
    W,
    node,
    populate,
    reset,
    version_word,
)

STEPS = 400
PORTS = (80, 81)
DENIED = 82
TRACES = {"overlay_mtu": 1450, "trace_ticks": 3600 * TICKS_PER_SECOND, "ticks_per_second": TICKS_PER_SECOND}
"""Configuration in which flows are traced when TCP begins or ends, and not by the clock."""


class Pair(NamedTuple):
    """Two nodes alike, one of which takes every packet the long way."""

    short: Node
    long: Node


@pytest.fixture(scope="module")
def loaded_pair() -> Iterator[Pair]:
    with node(variables=TRACES) as short, node(variables=TRACES | {"has_front_path": 0}) as long:
        yield Pair(short, long)


@pytest.fixture
def pair(loaded_pair: Pair) -> Pair:
    for each in loaded_pair:
        reset(each)
        populate(each)
        open_ports(each)
    return loaded_pair


def open_ports(here: Node) -> None:
    """Let both pods reach each other's ports by TCP and UDP, the remote pod and the world."""
    for protocol in (6, 17):
        for port in PORTS:
            for pod in (A, B):
                here.allow(pod, EGRESS, protocol=protocol, port=port)
                here.allow(pod, INGRESS, protocol=protocol, port=port)
    for pod in (A, B):
        here.allow(pod, EGRESS, protocol=1)
        here.allow(pod, INGRESS, protocol=1)


class Step(NamedTuple):
    """Packet of a pod."""

    frame: bytes
    device: str


def segment(random: Random, pods: tuple[Pod, Pod]) -> Step:
    """Return a segment or datagram between two pods, either way, on one of few flows."""
    client, server = pods
    sport, dport = random.choice((40000, 40001)), random.choice((*PORTS, DENIED))
    is_reply = random.random() < 0.4
    ends, ports = ((server, client), (dport, sport)) if is_reply else ((client, server), (sport, dport))
    if random.random() < 0.3:
        frame = udp(*ends, *ports)
    else:
        flags = random.choice(("S", "SA", "A", "A", "A", "PA", "A", "FA", "R", "RA", "AU", "", "SF"))
        numbers = {"seq": random.choice((0, 7, 1 << 31)), "ack": random.choice((0, 8, 1 << 31))}
        frame = sent(*ends, TCP(sport=ports[0], dport=ports[1], flags=flags, **numbers))
    return Step(bent(random, frame), ends[0].device)


def bent(random: Random, frame: bytes) -> bytes:
    """Return the frame, now and then with something about it that isn't plain."""
    changed = bytearray(frame)
    is_ipv4 = frame[12:14] == b"\x08\x00"
    match random.randrange(30):
        case 0:
            return frame + bytes(random.randrange(1, 40))
        case 1:
            return frame[: random.randrange(34 if is_ipv4 else 54, len(frame))]  # the kernel runs none shorter
        case 2:
            changed[16:18] = random.randrange(80).to_bytes(2, "big") if is_ipv4 else changed[16:18]
        case 3:
            changed[18:20] = random.randrange(80).to_bytes(2, "big") if not is_ipv4 else changed[18:20]
        case 4:
            changed[20:22] = random.choice((0x2000, 0x0001, 0x8000, 0x4000)).to_bytes(2, "big")
        case 5:
            changed[14] = random.choice((0x46, 0x44, 0x60, 0x6F, 0x45))
        case 6:
            changed[23 if is_ipv4 else 20] = random.choice((6, 17, 1, 58, 132))
        case 7:
            changed[6:12] = bytes(6)
        case 8:
            changed[12:14] = random.choice((b"\x08\x00", b"\x86\xdd", b"\x08\x06"))
            return bytes(changed) + bytes(20)
    return bytes(changed)


def step(random: Random) -> Step:
    """Return a packet that comes next."""
    match random.randrange(14):
        case 0:
            return Step(echo(*random.choice(((A, B), (B, A))), random.choice((0, 8))), random.choice(("lxc1", "lxc2")))
        case 1:
            flags = random.choice(("S", "A", "A", "PA", "FA"))
            return Step(tcp(A, random.choice((R, R, W)), flags=flags), "lxc1")
        case 2:
            options = IP(src=A.address, dst=B.address, options=b"\x01\x01\x01\x00")
            return Step(sent(A, B, TCP(sport=40000, dport=80, flags="A"), options=options.options), "lxc1")
        case 3:
            return Step(sent(A, B, UDP(sport=40000, dport=80), payload=bytes(random.randrange(3))), "lxc1")
        case 4 | 5 | 6 | 7:
            return segment(random, (A6, B6))
        case 8:
            payload = bytes(random.choice((10, 1380, 1400, 1450)))
            return Step(sent(A, R, TCP(sport=40000, dport=80, flags="A"), payload=payload), "lxc1")
        case _:
            return segment(random, (A, B))


def change(random: Random, revision: int) -> list[tuple[str, tuple[object, ...]]]:
    """Return what the agent does now and then: calls of both nodes."""
    match random.randrange(5):
        case 0:
            return [("renew", (random.choice((A.address, B.address, A6.address)),))]
        case 1:
            return [("realise", (random.choice((A.slot, B.slot)), revision))]
        case 2:
            return [("add_pod", (random.choice((A, B, A6, B6)),))]
        case 3:
            return [("deny_port", (random.choice((A, B)), revision))]
        case _:
            return [("note_change", ())]


def carry_out(here: Node, calls: list[tuple[str, tuple[object, ...]]]) -> None:
    for name, arguments in calls:
        if name == "deny_port":
            pod, revision = arguments
            assert isinstance(pod, Pod)
            assert isinstance(revision, int)
            here.allow(pod, INGRESS, protocol=6, port=PORTS[1], deny=True, precedence=0xFFFF_FFFF)
            here.realise(pod.slot, revision)
        else:
            getattr(here, name)(*arguments)


def timeless(entry: CtEntry) -> CtEntry:
    sides = tuple(side._replace(traced=0) for side in entry.side)
    return entry._replace(last_seen=0, side=sides)  # type: ignore[arg-type]


def seen(event: Event) -> Event:
    return event._replace(time_ns=0)


def state_of(here: Node) -> tuple[object, ...]:
    """Return all that a packet leaves behind."""
    flows = {key: timeless(entry) for key, entry in here.flows.items()}
    flows6 = {key: timeless(entry) for key, entry in here.flows6.items()}
    return flows, flows6, [seen(event) for event in here.events()]


def forwarded(here: Node) -> int:
    return here.counted(Outcome.FORWARDED, Hook.FROM_POD)


@pytest.mark.parametrize("seed", range(6))
def test_packets_fare_as_by_the_long_way(pair: Pair, seed: int) -> None:
    random = Random(seed)
    before = [forwarded(each) for each in pair]
    for number in range(STEPS):
        if random.random() < 0.05:
            calls = change(random, 2 + number)
            for each in pair:
                carry_out(each, calls)
        frame, device = step(random)
        short, long = (each.run("from_pod", frame, device) for each in pair)
        assert (short.retval, short.packet) == (long.retval, long.packet), frame.hex()
        assert state_of(pair.short) == state_of(pair.long), frame.hex()
    counts = [forwarded(each) - earlier for each, earlier in zip(pair, before, strict=True)]
    assert counts[0] == counts[1] > STEPS // 10


def connect(here: Node, ends: tuple[Pod, Pod]) -> None:
    """Begin a flow whose next packets are plain."""
    client, server = ends
    for frame, pod in (
        (tcp(client, server), client),
        (tcp(server, client, 80, 40000), server),
        (tcp(client, server, flags="A"), client),
    ):
        assert here.run("from_pod", frame, pod.device).retval == TC_ACT_REDIRECT


def close_silently(here: Node, slot: int) -> None:
    """Put a policy in force that denies everything, without the word of changes."""
    here.slots.store_u64(slot, version_word(99, 1))


@pytest.mark.parametrize("ends", [(A, B), (A6, B6)], ids=["IPv4", "IPv6"])
def test_a_stamped_flow_is_looked_at_again_once_the_word_of_changes_is_another(
    pair: Pair, ends: tuple[Pod, Pod]
) -> None:
    connect(pair.short, ends)
    close_silently(pair.short, B.slot)
    frame = tcp(*ends, flags="A")
    assert pair.short.run("from_pod", frame, "lxc1").retval == TC_ACT_REDIRECT, "it takes the front path"
    pair.short.note_change()
    assert pair.short.run("from_pod", frame, "lxc1").retval == TC_ACT_SHOT


def test_a_flow_to_another_node_takes_the_front_path_while_it_is_stamped(pair: Pair) -> None:
    pair.short.run("from_pod", tcp(A, R), "lxc1")
    close_silently(pair.short, A.slot)
    assert pair.short.run("from_pod", tcp(A, R, flags="A"), "lxc1").retval == TC_ACT_REDIRECT
    pair.short.note_change()
    assert pair.short.run("from_pod", tcp(A, R, flags="A"), "lxc1").retval == TC_ACT_SHOT


@pytest.mark.parametrize("ends", [(A, B), (A6, B6)], ids=["IPv4", "IPv6"])
def test_while_a_change_is_under_way_each_store_takes_effect_at_once(pair: Pair, ends: tuple[Pod, Pod]) -> None:
    frame = tcp(*ends, flags="A")
    for here in pair:
        connect(here, ends)
        here.change.add_u32(0)
        assert here.run("from_pod", frame, "lxc1").retval == TC_ACT_REDIRECT, "nothing is changed yet"
        close_silently(here, B.slot)
        assert here.run("from_pod", frame, "lxc1").retval == TC_ACT_SHOT
        here.change.add_u32(0, ChangePart.DONE - 1)
        assert here.run("from_pod", frame, "lxc1").retval == TC_ACT_SHOT


def test_what_is_looked_at_while_a_change_is_under_way_is_not_believed_after_it(pair: Pair) -> None:
    frame = tcp(A, B, flags="A")
    for here in pair:
        connect(here, (A, B))
        here.change.add_u32(0)
        here.run("from_pod", frame, "lxc1", repeat=2)
        here.change.add_u32(0)  # a second writer, which ends first
        here.run("from_pod", frame, "lxc1")
        here.change.add_u32(0, ChangePart.DONE - 1)
        here.run("from_pod", frame, "lxc1")
        close_silently(here, B.slot)
        here.change.add_u32(0, ChangePart.DONE - 1)
        assert here.run("from_pod", frame, "lxc1").retval == TC_ACT_SHOT


def test_a_flow_without_a_change_is_stamped_anew_by_its_next_packet_alone(pair: Pair) -> None:
    connect(pair.short, (A, B))
    pair.short.note_change()
    assert pair.short.run("from_pod", tcp(A, B, flags="A"), "lxc1").retval == TC_ACT_REDIRECT
    close_silently(pair.short, B.slot)
    assert pair.short.run("from_pod", tcp(A, B, flags="A"), "lxc1").retval == TC_ACT_REDIRECT, "stamped"


def test_the_port_of_the_tunnel_is_closed_in_every_flow(pair: Pair) -> None:
    for here in pair:
        for pod in (A, B):
            for direction in (EGRESS, INGRESS):
                here.allow(pod, direction)
        for _ in range(3):
            assert here.run("from_pod", udp(B, A, 8472, 40000), "lxc2").retval == TC_ACT_REDIRECT
        assert here.run("from_pod", udp(A, B, 40000, 8472), "lxc1").retval == TC_ACT_SHOT


def test_a_forged_sender_has_no_part_in_a_stamped_flow(pair: Pair) -> None:
    for here in pair:
        connect(here, (A, B))
        assert here.run("from_pod", tcp(A, B, flags="A"), "lxc2").retval == TC_ACT_SHOT
