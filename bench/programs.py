"""Cost of a packet in the programs, by BPF_PROG_TEST_RUN, beside an empty and a minimal one.

Reports have the budgets that agents give them, but for those figures that are to have one for each
packet. Masquerading is measured on a mapping that maps a pod's address and port to themselves, so
that a repeated run finds the packet as it was.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.report import Figure, summarize
from cilia.abi import maps
from cilia.abi.enums import PolicyShape
from cilia.abi.structs import NatEntry, NatKey
from cilia.datapath.clock import TICKS_PER_SECOND
from cilia.datapath.objects import LoadedObject, load
from cilia.datapath.programs import Program
from laboratory.turns import Turns, ratios
from tests.bpf.datapath.rig import EGRESS, INGRESS, A, B, Node, Pod, W, mapped, node, populate
from tools.build import ROOT, compile_bpf

REPEAT: Final = 200
FLOWS: Final = 100_000
"""Number of flows in the map, as in bpf/tests/flows.c."""
COLD_REPEAT: Final = 5000
TCP: Final = 6
SYN, ACK = 0x02, 0x10
CLIENT_PORT: Final = 40_000
OTHER_PORT: Final = CLIENT_PORT + 1
PORTS: Final = (80, 81)
"""Ports of the server; the second takes the flows that the first has no port for."""
DENIED: Final = 82
UNLIMITED: Final = 1_000_000
LIMITS: Final = {"event_rate": 500, "event_burst": 2000, "node_event_rate": 4000, "node_event_burst": 16000}
"""Budgets of reports as agents set them by default."""
SHIPPED: Final = {
    "ticks_per_second": TICKS_PER_SECOND,
    "trace_ticks": 5 * TICKS_PER_SECOND,
    "masquerades": 1,
    "event_rate": UNLIMITED,
    "event_burst": 4 * UNLIMITED,
    "node_event_rate": UNLIMITED,
    "node_event_burst": 4 * UNLIMITED,
}
"""Configuration as agents set it, but for budgets that no run exceeds."""
BESIDE_MINIMAL: Final = ("forward", "reply", "new", "drop", "drop_new", "drop_flood", "snat")
"""Figures that are told as ratios to the minimal program, too."""


def tcp(source: Pod, destination: Pod, source_port: int, destination_port: int, flags: int = ACK) -> bytes:
    """Return a TCP segment with 10 bytes of payload."""
    addresses = bytes(int(part) for part in f"{source.address}.{destination.address}".split("."))
    ports = source_port.to_bytes(2, "big") + destination_port.to_bytes(2, "big")
    ethernet = bytes(6) + source.mac + b"\x08\x00"
    ip = bytes.fromhex("45000032000040004006") + bytes(2) + addresses
    return ethernet + ip + ports + bytes(8) + bytes((0x50, flags)) + bytes(6) + bytes(10)


@contextmanager
def compiled(name: str) -> Iterator[Path]:
    """Compile a program of bpf/tests."""
    with TemporaryDirectory() as scratch:
        target = Path(scratch) / f"{name}.o"
        compile_bpf(ROOT / f"bpf/tests/{name}.c", target)
        yield target


def prepare(here: Node) -> None:
    """Let A reach B's ports, by a rule on each side, and the world."""
    populate(here)
    for port in PORTS:
        here.allow(A, EGRESS, B.identity, TCP, port)
        here.allow(B, INGRESS, A.identity, TCP, port)
    here.allow(A, EGRESS, W.identity, TCP, PORTS[0])
    for pod in (A, B):
        here.realise(pod.slot, shapes=1 << PolicyShape.PORT, named_only=0b11)  # as the agent has it for such entries


def map_to_itself(here: Node) -> bytes:
    """Have two of A's flows to the world masqueraded, each as the other, so that a frame that was
    rewritten is one to be rewritten; return a packet of one.
    """
    ports = CLIENT_PORT, OTHER_PORT
    for own, outside in (ports, ports[::-1]):
        key = NatKey(mapped(W.address), mapped(A.address), PORTS[0], own, TCP, 0)
        here.nat.update(key, NatEntry(0, 0, 0, 0, outside, mapped(A.address), 0))
        here.nat.update(key._replace(local_port=outside, is_reply=1), NatEntry(0, 0, 0, 0, own, mapped(A.address), 0))
    return tcp(A, W, CLIENT_PORT, PORTS[0])


def subjects(here: Node, limited: Node, empty: Program, minimal: LoadedObject) -> dict[str, Callable[[], float]]:
    """Return what is measured: name -> mean of one round, in ns.

    Args:
        limited: A node where most reports of a flood are above their limit.
    """
    forward, reply = tcp(A, B, CLIENT_PORT, PORTS[0]), tcp(B, A, PORTS[0], CLIENT_PORT)
    first, denied = (tcp(A, B, CLIENT_PORT, port, SYN) for port in (PORTS[0], DENIED))
    here.run("from_pod", first, "lxc1")
    here.run("from_pod", tcp(B, A, PORTS[0], CLIENT_PORT, SYN | ACK), "lxc2")
    with minimal.map(maps.CT4) as flows:
        flows.update(*here.flow())
    floor = minimal.program("minimal")
    limited.run("from_pod", denied, "lxc1", 2 * LIMITS["event_burst"])
    return {
        "empty": lambda: empty.test_run(forward, repeat=REPEAT).duration_ns,
        "minimal": lambda: floor.test_run(forward, repeat=REPEAT).duration_ns,
        "forward": runs(here, "from_pod", "lxc1", forward),
        "reply": runs(here, "from_pod", "lxc2", reply),
        "new": runs(here, "first_from_pod", "lxc1", first),
        "drop": runs(here, "from_pod", "lxc1", denied),
        "drop_new": runs(here, "first_from_pod", "lxc1", denied),
        "drop_flood": runs(limited, "from_pod", "lxc1", denied),
        "snat": runs(here, "to_uplink", "uplink", map_to_itself(here)),
    }


def among_many(here: Node) -> dict[str, Callable[[], float]]:
    """Make FLOWS flows, and return what is measured among them in random order."""
    packet = tcp(A, B, CLIENT_PORT, PORTS[0])
    here.run("first_from_pod", tcp(A, B, CLIENT_PORT, PORTS[0], SYN), "lxc1", FLOWS)
    return {
        "minimal_cold": runs(here, "random_minimal", "lxc1", packet, COLD_REPEAT),
        "forward_cold": runs(here, "random_from_pod", "lxc1", packet, COLD_REPEAT),
    }


def runs(here: Node, program: str, device: str, packet: bytes, repeat: int = REPEAT) -> Callable[[], float]:
    """Return the measurement of a program on a packet; it takes the events off the ring, too."""

    def measure() -> float:
        duration_ns = here.run(program, packet, device, repeat).duration_ns
        while here.events():
            pass
        return duration_ns

    return measure


def measure_programs(rounds: int, turns: Turns | None = None) -> Iterator[Figure]:
    """Measure every program, in turns."""
    turns = turns or Turns()
    with ExitStack() as stack:
        file = stack.enter_context(compiled("flows"))
        here = stack.enter_context(node(file, max_entries={}, variables=SHIPPED))
        limited = stack.enter_context(node(file, variables=SHIPPED | LIMITS))
        for each in (here, limited):
            prepare(each)
        empty, minimal = (stack.enter_context(load(stack.enter_context(compiled(n)))) for n in ("empty", "minimal"))
        samples = turns.take("programs", subjects(here, limited, empty.program("empty"), minimal), rounds)
        yield from means(samples)
        for name in BESIDE_MINIMAL:
            yield summarize(f"datapath.{name}.ratio", "ratio", ratios(samples[name], samples["minimal"]))
        cold = turns.take("programs among many flows", among_many(here), rounds)
        yield from means(cold)
        yield summarize("datapath.cold.ratio", "ratio", ratios(cold["forward_cold"], cold["minimal_cold"]))


def means(samples: Mapping[str, list[float]]) -> Iterator[Figure]:
    """Return the time of each subject."""
    return (summarize(f"datapath.{name}.ns", "ns", values) for name, values in samples.items())
