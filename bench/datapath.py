"""What a packet costs in the data plane, by BPF_PROG_TEST_RUN: ours beside a minimal and an empty program.

Rounds of all programs alternate, so that what else the machine does hits all of them alike. The packet has 118 bytes;
both ends are pods of this node. Run as root: ``python -m bench.datapath [--json]``.
"""

import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.report import Figure, report, summarize
from bench.scene import SERVER_PORT, TCP_ACK, TCP_SYN, Pod, frame, make_pods, own_network, realise
from cilia.abi.codec import U32, MapLayout, raw
from cilia.datapath.objects import OBJECTS, LoadedObject, Loading, load
from cilia.datapath.programs import Program, skb_context
from tools.build import ROOT, compile_bpf

REPEAT: Final = 200
ROUNDS: Final = 60
CLIENT_PORT: Final = 40_000
MANY_ENTRIES: Final = 10_000
TC_ACT_SHOT, TC_ACT_REDIRECT = 2, 7

RENEWED: Final = MapLayout("renewed", "PROG_ARRAY", U32, U32, 1)
MINIMAL_FLOWS: Final = MapLayout("minimal_flows", "LRU_HASH", raw(16), U32, 131072)

Run = Callable[[int], int]
"""Runs a program so many times; gives the mean in ns."""


class WrongVerdict(Exception):
    """A program did something else than what is being measured."""

    def __init__(self, program: str, verdict: int, wanted: int) -> None:
        super().__init__(f"{program} returned {verdict} instead of {wanted}")
        self.program, self.verdict, self.wanted = program, verdict, wanted


def runner(program: Program, packet: bytes, ifindex: int, wanted: int) -> Run:
    """Return the run of a program on a packet that comes by a device; raises WrongVerdict when run."""
    context = skb_context(ifindex=ifindex, ingress_ifindex=ifindex)

    def run(repeat: int) -> int:
        outcome = program.test_run(packet, context, repeat)
        if outcome.retval != wanted:
            raise WrongVerdict(program.name, outcome.retval, wanted)
        return outcome.duration_ns

    return run


def load_test(stack: ExitStack, scratch: Path, name: str) -> LoadedObject:
    """Compile and load bpf/tests/NAME.c."""
    target = scratch / f"{name}.o"
    compile_bpf(ROOT / "bpf/tests" / f"{name}.c", target)
    return stack.enter_context(load(target))


def baselines(stack: ExitStack, scratch: Path, client: Pod, packet: bytes) -> dict[str, Run]:
    """Return the runs that ours are held against."""
    minimal = load_test(stack, scratch, "minimal")
    with minimal.map(MINIMAL_FLOWS) as flows:
        flows.update(packet[26:38] + bytes([packet[23], 0, 0, 0]), client.ifindex)
    return {
        "empty": runner(load_test(stack, scratch, "empty").program("empty"), packet, client.ifindex, 0),
        "minimal": runner(minimal.program("minimal"), packet, client.ifindex, TC_ACT_REDIRECT),
    }


def renewing(stack: ExitStack, scratch: Path, program: Program) -> Program:
    """Return a program that calls ``program`` with another source port each time."""
    renew = load_test(stack, scratch, "renew")
    with renew.map(RENEWED) as renewed:
        renewed.update(0, program.fileno())
    return renew.program("renew")


def load_datapath(stack: ExitStack, client: Pod, server: Pod, fillers: int) -> LoadedObject:
    """Load the data plane with maps of its own."""
    loaded = stack.enter_context(load(OBJECTS / "cilia.o", Loading()))
    realise(loaded, client, server, fillers)
    return loaded


def prepare(stack: ExitStack) -> Mapping[str, Run]:
    """Return what is measured, by the figure's name."""
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    stack.enter_context(own_network())
    client, server = make_pods()
    asking = frame(client, server, (CLIENT_PORT, SERVER_PORT))
    opening = frame(client, server, (CLIENT_PORT, SERVER_PORT), TCP_SYN)
    answering = frame(server, client, (SERVER_PORT, CLIENT_PORT), TCP_SYN | TCP_ACK)
    refused = frame(client, server, (CLIENT_PORT, SERVER_PORT + 1), TCP_SYN)
    runs = baselines(stack, scratch, client, asking)
    few = load_datapath(stack, client, server, 0).program("from_pod")
    many = load_datapath(stack, client, server, MANY_ENTRIES).program("from_pod")
    runner(few, opening, client.ifindex, TC_ACT_REDIRECT)(1)
    runs["forward"] = runner(few, asking, client.ifindex, TC_ACT_REDIRECT)
    runs["reply"] = runner(few, answering, server.ifindex, TC_ACT_REDIRECT)
    runs["drop"] = runner(few, refused, client.ifindex, TC_ACT_SHOT)
    runs["new"] = runner(renewing(stack, scratch, few), opening, client.ifindex, TC_ACT_REDIRECT)
    runs["new.10k_entries"] = runner(renewing(stack, scratch, many), opening, client.ifindex, TC_ACT_REDIRECT)
    return runs


def measure() -> list[Figure]:
    """Return the figures of all programs, each the median of alternating rounds."""
    with ExitStack() as stack:
        runs = prepare(stack)
        samples: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(ROUNDS):
            for name, run in runs.items():
                samples[name].append(run(REPEAT))
    return [summarize(f"datapath.{name}.ns", "ns", values) for name, values in samples.items()]


if __name__ == "__main__":
    report(measure())
