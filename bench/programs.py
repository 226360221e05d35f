"""Cost of a packet in the programs, by BPF_PROG_TEST_RUN, beside an empty and a minimal one."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.report import Figure, summarize
from cilia.abi import maps
from cilia.abi.enums import PolicyShape
from cilia.datapath.objects import LoadedObject, load
from cilia.datapath.programs import Program
from laboratory.turns import ratios, take_turns
from tests.bpf.datapath.rig import EGRESS, INGRESS, A, B, Node, Pod, node, populate
from tools.build import ROOT, compile_bpf

REPEAT: Final = 200
FLOWS: Final = 100_000
"""Number of flows in the map, as in bpf/tests/flows.c."""
COLD_REPEAT: Final = 5000
TCP: Final = 6
ESTABLISHED: Final = 0x10
"""TCP's ACK."""
PORTS: Final = (80, 81)
"""Ports of the server; the second takes the flows that the first has no port for."""
DENIED: Final = 82


def tcp(source: Pod, destination: Pod, source_port: int, destination_port: int) -> bytes:
    """Return a TCP segment with 10 bytes of payload."""
    addresses = bytes(int(part) for part in f"{source.address}.{destination.address}".split("."))
    ports = source_port.to_bytes(2, "big") + destination_port.to_bytes(2, "big")
    ethernet = bytes(6) + source.mac + b"\x08\x00"
    ip = bytes.fromhex("45000032000040004006") + bytes(2) + addresses
    return ethernet + ip + ports + bytes(8) + bytes((0x50, ESTABLISHED)) + bytes(6) + bytes(10)


@contextmanager
def compiled(name: str) -> Iterator[Path]:
    """Compile a program of bpf/tests."""
    with TemporaryDirectory() as scratch:
        target = Path(scratch) / f"{name}.o"
        compile_bpf(ROOT / f"bpf/tests/{name}.c", target)
        yield target


def prepare(here: Node) -> None:
    """Let A reach B's ports, by a rule on each side."""
    populate(here)
    for port in PORTS:
        here.allow(A, EGRESS, B.identity, TCP, port)
        here.allow(B, INGRESS, A.identity, TCP, port)
    for pod in (A, B):
        here.realise(pod.slot, shapes=1 << PolicyShape.PORT, named_only=0b11)  # as the agent has it for such entries


def subjects(here: Node, empty: Program, minimal: LoadedObject) -> dict[str, Callable[[], float]]:
    """Return what is measured: name -> mean of one round, in ns."""
    forward, reply = tcp(A, B, 40000, PORTS[0]), tcp(B, A, PORTS[0], 40000)
    denied = tcp(A, B, 40000, DENIED)
    here.run("from_pod", forward, "lxc1")
    with minimal.map(maps.CT4) as flows:
        flows.update(*here.flow())
    floor = minimal.program("minimal")
    return {
        "empty": lambda: empty.test_run(forward, repeat=REPEAT).duration_ns,
        "minimal": lambda: floor.test_run(forward, repeat=REPEAT).duration_ns,
        "forward": runs(here, "from_pod", "lxc1", forward),
        "reply": runs(here, "from_pod", "lxc2", reply),
        "new": runs(here, "first_from_pod", "lxc1", forward),
        "drop": runs(here, "from_pod", "lxc1", denied),
    }


def among_many(here: Node) -> dict[str, Callable[[], float]]:
    """Make FLOWS flows, and return what is measured among them in random order."""
    packet = tcp(A, B, 40000, PORTS[0])
    here.run("first_from_pod", packet, "lxc1", FLOWS)
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


def measure_programs(rounds: int) -> list[Figure]:
    """Measure every program, in turns."""
    with ExitStack() as stack:
        here = stack.enter_context(node(stack.enter_context(compiled("flows")), max_entries={}))
        prepare(here)
        empty, minimal = (stack.enter_context(load(stack.enter_context(compiled(n)))) for n in ("empty", "minimal"))
        samples = take_turns(subjects(here, empty.program("empty"), minimal), rounds)
        cold = take_turns(among_many(here), rounds)
    figures = [summarize(f"datapath.{name}.ns", "ns", values) for name, values in (samples | cold).items()]
    return [
        *figures,
        summarize("datapath.cold.ratio", "ratio", ratios(cold["forward_cold"], cold["minimal_cold"])),
    ]
