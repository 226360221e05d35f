"""Cost of the programs under traffic, by kernel.bpf_stats, beside the minimal program.

The minimal program is put in front of ours at the same pods' links, and finds the flows that ours
have entered; what it doesn't know goes on to ours.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from bench.ours import ENTRIES, Ours
from bench.programs import FLOWS, compiled
from bench.report import Figure, summarize
from bench.traffic import FLOW_PORTS, Generator
from cilia.datapath.links import BEFORE_ALL, AttachType, Link
from cilia.datapath.map_info import open_map_info
from cilia.datapath.objects import LoadOptions, load
from cilia.datapath.programs import Program
from cilia.netns import inside
from laboratory.layout import netns_path
from laboratory.turns import Turns, ratios

SWITCH: Final = Path("/proc/sys/kernel/bpf_stats_enabled")
NODE: Final = "node1"
SECONDS: Final = 0.5


def measure_live(ours: Ours, generator: Generator, minimal: Program, turns: Turns, rounds: int) -> list[Figure]:
    """Measure the mean of our program and of the minimal one, on one flow and among FLOWS in random
    order.
    """
    way = ours.way(ours.local[ENTRIES[0]])

    def mean(program: Program, mode: str, flows: int) -> float:
        before: list[Spent] = []
        generator.run(mode, way, SECONDS, flows=flows, at_start=lambda: before.append(spent(program)))
        return spent(program).mean_since(before[-1])

    def alone(mode: str, flows: int) -> Callable[[], float]:
        def measure() -> float:
            with from_pod(ours) as own:
                return mean(own, mode, flows)

        return measure

    def behind(mode: str, flows: int) -> Callable[[], float]:
        def measure() -> float:
            with in_front(minimal, ours):
                return mean(minimal, mode, flows)

        return measure

    with statistics():
        samples = turns.take(
            "programs under traffic",
            {
                "live": alone("rr", FLOW_PORTS),
                "live_minimal": behind("rr", FLOW_PORTS),
                "live_flows": alone("flows", FLOWS),
                "live_flows_minimal": behind("flows", FLOWS),
            },
            rounds,
        )
    return [
        *(summarize(f"datapath.{name}.ns", "ns", values) for name, values in samples.items()),
        summarize("datapath.live.ratio", "ratio", ratios(samples["live"], samples["live_minimal"])),
        summarize("datapath.live_flows.ratio", "ratio", ratios(samples["live_flows"], samples["live_flows_minimal"])),
    ]


@contextmanager
def minimal_program(ours: Ours) -> Iterator[Program]:
    """Load the minimal program over the flows of the client's node, for the block."""
    with ExitStack() as stack:
        loading = LoadOptions(pin_directory=ours.cluster.layout.pins / NODE)
        yield stack.enter_context(load(stack.enter_context(compiled("minimal")), loading)).program("minimal")


@contextmanager
def in_front(program: Program, ours: Ours) -> Iterator[None]:
    """Have a program see first what the pods of the client's node send, for the block."""
    pods = [ours.client, *ours.local.values()]
    with ExitStack() as stack:
        with inside(netns_path(ours.cluster.layout.namespace(NODE))):
            for pod in pods:
                link = Link.attach(program, AttachType.TCX_INGRESS, pod.endpoint.ifindex, BEFORE_ALL)
                stack.callback(link.close)
        yield


@contextmanager
def statistics() -> Iterator[None]:
    """Have the kernel take the time of every program for the block."""
    former = SWITCH.read_text()
    SWITCH.write_text("1")
    try:
        yield
    finally:
        SWITCH.write_text(former)


@contextmanager
def from_pod(ours: Ours) -> Iterator[Program]:
    """Open the program behind the pods of the client's node, for the block: the latest over that
    node's flows.
    """
    flows = open_map_info(ours.cluster.layout.pins / NODE / "cilia_ct4").id
    run = subprocess.run(["bpftool", "-j", "prog", "show"], stdout=subprocess.PIPE, check=True)
    found = [each for each in json.loads(run.stdout) if each.get("name") == "from_pod" and flows in each["map_ids"]]
    with Program.open_by_id(max(int(each["id"]) for each in found), "from_pod") as program:
        yield program


class Spent(NamedTuple):
    """Run time and runs of a program since statistics were first switched on."""

    ns: int
    runs: int

    def mean_since(self, former: "Spent") -> float:
        """Return the ns of a run since then."""
        return (self.ns - former.ns) / (self.runs - former.runs)


def spent(program: Program) -> Spent:
    """Ask the kernel."""
    lines = Path(f"/proc/self/fdinfo/{program.fileno()}").read_text().splitlines()
    said = dict(line.split(":", 1) for line in lines)
    return Spent(int(said["run_time_ns"]), int(said["run_cnt"]))
