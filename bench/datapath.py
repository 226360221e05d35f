"""What a packet costs in the data plane, by BPF_PROG_TEST_RUN, beside an empty and a minimal program.

Each figure is the median over rounds of the mean of a run; the programs take turns within a round, so that a slow
moment of the machine meets them all. Run: ``python -m bench.datapath [--json]``.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.report import Figure, report, summarize
from cilia.abi import maps
from cilia.abi.enums import PolicyShape
from cilia.datapath.objects import LoadedObject, load
from cilia.datapath.programs import Program
from tests.bpf.datapath.rig import EGRESS, INGRESS, A, B, Node, Pod, node, populate
from tools.build import ROOT, compile_bpf

REPEAT: Final = 200
ROUNDS: Final = 60
COLD_REPEAT: Final = 5000
TCP: Final = 6
ESTABLISHED: Final = 0x10
"""TCP's ACK."""


def tcp(source: Pod, destination: Pod, source_port: int, destination_port: int) -> bytes:
    """Return a TCP segment with 10 bytes of payload."""
    addresses = bytes(int(part) for part in f"{source.address}.{destination.address}".split("."))
    ports = source_port.to_bytes(2, "big") + destination_port.to_bytes(2, "big")
    ip = bytes.fromhex("45000032000040004006") + bytes(2) + addresses
    return (
        bytes(6) + source.mac + b"\x08\x00" + ip + ports + bytes(8) + bytes((0x50, ESTABLISHED)) + bytes(6) + bytes(10)
    )


@contextmanager
def compiled(name: str) -> Iterator[Path]:
    """Compile a program of bpf/tests."""
    with TemporaryDirectory() as scratch:
        target = Path(scratch) / f"{name}.o"
        compile_bpf(ROOT / f"bpf/tests/{name}.c", target)
        yield target


def prepare(node: Node) -> None:
    """Let A reach B's port 80, by one rule on each side."""
    populate(node)
    node.allow(A, EGRESS, B.identity, TCP, 80)
    node.allow(B, INGRESS, A.identity, TCP, 80)
    for pod in (A, B):
        node.realise(pod.slot, shapes=1 << PolicyShape.PORT)


def subjects(here: Node, empty: Program, minimal: LoadedObject) -> dict[str, Callable[[], float]]:
    """Return what is measured: name -> mean of one round, in ns."""
    forward, reply = tcp(A, B, 40000, 80), tcp(B, A, 80, 40000)
    denied = tcp(A, B, 40000, 81)
    here.run("from_pod", forward, "lxc1")
    with minimal.map(maps.CT4) as flows:
        flows.update(*here.flow())
    floor = minimal.program("minimal")

    def runs(program: str, device: str, packet: bytes) -> Callable[[], float]:
        return lambda: here.run(program, packet, device, REPEAT).duration_ns

    return {
        "empty": lambda: empty.test_run(forward, repeat=REPEAT).duration_ns,
        "minimal": lambda: floor.test_run(forward, repeat=REPEAT).duration_ns,
        "forward": runs("from_pod", "lxc1", forward),
        "reply": runs("from_pod", "lxc2", reply),
        "new": runs("first_from_pod", "lxc1", forward),
        "drop": runs("from_pod", "lxc1", denied),
    }


def among_many(here: Node) -> dict[str, Callable[[], float]]:
    """Make a flow for every source port, and return what is measured among them in random order."""
    packet = tcp(A, B, 40000, 80)
    here.run("first_from_pod", packet, "lxc1", 1 << 16)
    return {
        "minimal_cold": lambda: here.run("random_minimal", packet, "lxc1", COLD_REPEAT).duration_ns,
        "forward_cold": lambda: here.run("random_from_pod", packet, "lxc1", COLD_REPEAT).duration_ns,
    }


def sample(here: Node, measured: dict[str, Callable[[], float]]) -> Iterator[Figure]:
    """Measure in turns and yield the figures."""
    samples: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(ROUNDS):
        for name, measure in measured.items():
            samples[name].append(measure())
            while here.events():
                pass
    for name, values in samples.items():
        yield summarize(f"datapath.{name}.ns", "ns", values)


def main() -> None:
    with ExitStack() as stack:
        here = stack.enter_context(node(stack.enter_context(compiled("flows")), max_entries={}))
        prepare(here)
        empty, minimal = (stack.enter_context(load(stack.enter_context(compiled(n)))) for n in ("empty", "minimal"))
        hot = [*sample(here, subjects(here, empty.program("empty"), minimal))]
        report([*hot, *sample(here, among_many(here))])


if __name__ == "__main__":
    main()
