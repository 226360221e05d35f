"""Frame by frame through the programs and through the model; the first difference ends it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Final, NamedTuple

from cilia.abi.enums import CtState, EventKind, Hook
from cilia.abi.structs import Ct4Key, Ct6Key, CtEntry, CtSide, Event
from tests.bpf.datapath.rig import Node, Pod, node, reset
from tests.bpf.fuzz import frames
from tests.bpf.fuzz.model import Flow, FlowKey, L4Address, Model, Traffic
from tests.bpf.fuzz.nearly import nearly
from tests.bpf.fuzz.outcomes import End, Outcome
from tests.bpf.fuzz.worlds import PODS, World

FRAMES_PER_WORLD: Final = 250
CHANGES: Final = 0.05
PROGRAMS: Final = {Hook.FROM_POD: "from_pod", Hook.TO_POD: "to_pod", Hook.FROM_OVERLAY: "from_overlay"}


class Shares(NamedTuple):
    """Shares of the frames, 0..1; the rest is well-formed."""

    nearly: float
    """Valid but for one or two changes."""
    broken: float
    """Cut, overwritten, made up."""


class Difference(AssertionError):
    """The programs did something else than the model."""

    def __init__(self, what: str, got: object, expected: object, where: str) -> None:
        super().__init__(f"{what}: {got}, expected {expected}; {where}")


@contextmanager
def laboratory() -> Iterator[Node]:
    """Give a node with the pods of the worlds."""
    with node(pods=PODS) as made:
        yield made


def run(node: Node, seed: int, packets: int, shares: Shares) -> Counter[int]:
    """Compare on so many frames.

    Args:
        seed: Makes the same frames and maps again; a difference names it.
        shares: Of the frames by how they are made.

    Returns:
        How many frames had which drop reason; 0: forwarded.

    Raises:
        Difference: In verdict, bytes, report or flow.
    """
    outcomes: Counter[int] = Counter()
    pick = Random(seed)
    while packets > 0:
        reset(node)
        world = World(node, pick)
        for index in range(min(packets, FRAMES_PER_WORLD)):
            if pick.random() < CHANGES:
                world.change()
            outcomes[compare_one(node, world.model, pick, shares, f"seed {seed}, frame {index}")] += 1
        compare_flows(node, world.model, f"seed {seed}")
        packets -= FRAMES_PER_WORLD
    return outcomes


def compare_one(node: Node, model: Model, pick: Random, shares: Shares, where: str) -> int:
    """Send one frame; return its drop reason."""
    speech = pick.choice((frames.SPEECH4, frames.SPEECH6))
    pod = pick.choice(speech.pods)
    hook = pick.choices((Hook.FROM_POD, Hook.TO_POD, Hook.FROM_OVERLAY), (80, 19, 1))[0]
    frame = frame_of(pick, speech, pod, shares, is_sent=hook == Hook.FROM_POD)
    device = pod.device if hook != Hook.FROM_OVERLAY else "overlay"
    expected = model.receive(frame, hook, node.devices[device])
    ran = node.run(PROGRAMS[hook], frame, device)
    where = f"{where}, {PROGRAMS[hook]} of {device}: {frame.hex()}"
    if (ran.retval, ran.packet) != (expected.action, expected.frame):
        got = (ran.retval, ran.packet.hex(), node.events())
        raise Difference("verdict and bytes", got, (expected.action, expected.frame.hex(), expected.reason), where)
    compare_report(node.events(), expected, where)
    return expected.reason


def frame_of(pick: Random, speech: frames.Speech, pod: Pod, shares: Shares, *, is_sent: bool) -> bytes:
    """Return a frame that a pod sends, or that this host's stack sends to it."""
    kind = pick.random()
    if kind < shares.nearly:
        other, macs = pick.choice(speech.addresses), pick.randbytes(6) + pod.mac
        source, destination = (pod.address, other) if is_sent else (other, pod.address)
        return nearly(pick, speech, source, destination, macs)
    frame = frames.sent(pick, speech, pod) if is_sent else frames.received(pick, speech, pod)
    return frames.broken(pick, frame) if kind < shares.nearly + shares.broken else frame


def compare_report(events: list[Event], expected: Outcome, where: str) -> None:
    """Compare what was reported: nothing about a known flow, else the decision."""
    if len(events) != int(expected.is_reported):
        raise Difference("reports", events, expected.is_reported, where)
    for event in events:
        kind = EventKind.DROP if expected.reason else EventKind.VERDICT
        if (event.kind, event.reason) != (kind, expected.reason):
            raise Difference("report", (event.kind, event.reason), (kind, expected.reason), where)
        if expected.ends and expected.judged:
            got = event.identity, event.endpoint, (event.direction, event.cookie, bool(event.audited))
            source, target = expected.ends
            wanted = (source.identity, target.identity), (source.id, target.id), expected.judged
            if got != wanted:
                raise Difference("decision", got, wanted, where)


def compare_flows(node: Node, model: Model, where: str) -> None:
    """Compare all flows, apart from the times and the sums of revisions."""
    got: dict[Ct4Key | Ct6Key, CtEntry] = {
        key: untimed(value) for table in (node.flows, node.flows6) for key, value in table.items()
    }
    wanted = dict(entry_of(key, flow, model) for key, flow in model.flows.items())
    for key in got.keys() | wanted.keys():
        if got.get(key) != wanted.get(key):
            raise Difference(f"flow {key}", got.get(key), wanted.get(key), where)


def untimed(entry: CtEntry) -> CtEntry:
    sides = entry.side[0]._replace(traced=0), entry.side[1]._replace(traced=0)
    return entry._replace(generation=0, last_seen=0, stamp=0, endpoint=0, is_outgoing=0, born=0, side=sides)


def entry_of(key: FlowKey, flow: Flow, model: Model) -> tuple[Ct4Key | Ct6Key, CtEntry]:
    """Return a flow of the model as the programs keep it."""
    low, high, protocol = key
    one, other = flow.ends[low], flow.ends[high]
    back = flow.sent[high] if high != low else Traffic()  # an address that talks to itself has but the first side
    entry = CtEntry(
        generation=0,
        policy_slot=(one.slot, other.slot),
        bucket=(one.address % 65536, other.address % 65536),
        identity=(one.identity, other.identity),
        last_seen=0,
        stamp=0,
        cookie=flow.denied[1][1] if flow.denied else 0,
        endpoint=0,
        initiator=int(flow.initiator != low),
        state=state_of(flow, low, high),
        reason=flow.denied[0] if flow.denied else 0,
        direction=flow.denied[1][0] if flow.denied else 0,
        is_outgoing=0,
        born=0,
        owner=(one.id, other.id),
        side=(side_of(flow.sent[low], one, other, model), side_of(back, other, one, model)),
    )
    ports = low[1], high[1]
    if low[0] >> 32 == high[0] >> 32 == 0xFFFF:
        return Ct4Key((low[0] & 0xFFFF_FFFF, high[0] & 0xFFFF_FFFF), ports, protocol), entry
    return Ct6Key((low[0].to_bytes(16, "big"), high[0].to_bytes(16, "big")), ports, protocol), entry


def state_of(flow: Flow, low: L4Address, high: L4Address) -> int:
    """Return the bits of a flow's state."""
    bits = {
        CtState.DENIED: flow.denied,
        CtState.MIDWAY: flow.is_midway,
        CtState.RESET: flow.is_reset,
        CtState.ENDING: flow.is_ending,
        CtState.ENDED_0: flow.sent[low].has_ended,
        CtState.ENDED_1: high != low and flow.sent[high].has_ended,
    }
    return sum(bit for bit, is_set in bits.items() if is_set)


def side_of(sent: Traffic, near: End, far: End, model: Model) -> CtSide:
    """Return what one end sends, and where it goes."""
    return CtSide(
        packets=sent.packets,
        bytes_=sent.bytes,
        source_ifindex=model.device(near),
        ifindex=far.ifindex,
        tunnel=far.tunnel,
        traced=0,
        mac=far.mac,
        tcp_flags=sent.tcp_flags,
        acknowledged=sent.acknowledged,
        fin=sent.fin,
    )
