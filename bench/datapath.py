"""The data plane beside plain routing, nftables with conntrack, plain VXLAN and the minimal
program, in one run.

``python -m bench.datapath [--quick] [--rounds N] [--json]``. Everything is set up at once, and the
rivals take turns within a round, so that a slow moment of the machine meets them all; a ratio is
the median of the rounds' ratios. Both ends of the traffic are pinned to one CPU (wake-ups across
CPUs would drown every difference), and a rate is per second of that CPU's time: the inverse of what
all the work for a transaction costs, softirqs included.

Figures, by name:

- ``datapath.*.ns``: one program, one packet: BPF_PROG_TEST_RUN, and ``live*`` by kernel.bpf_stats;
  ``datapath.*.ratio``: to the minimal program of the same round, which is the figure to compare
  between machines. ``forward``, ``reply``: of an established flow; ``new``: the first of a flow,
  with its event; ``drop``: a denied packet, with its event, ``drop_new``: the first of its flow;
  ``drop_flood``: one of a flood, whose events are above the limit; ``snat``: what ``to_uplink``
  does to a packet of a masqueraded flow.
- ``local.*``, ``vxlan.*``: ours, on one node and across two, with a policy of 10 ports at either
  end; ``local.N.*``: of N ports.
- ``plain.*``, ``plain_vxlan.*``: the same links, addresses and MTU without programs.
- ``minimal.*``, ``tcx.*``: the minimal program in place of ours; ours by TCX links instead of the
  pods' shared blocks.
- ``nft.N.*``: plain routing under N rules, established packets accepted first, as firewalls do;
  ``nft_rules_first.N.*``: the rules before that.
- ``*.rr.*``, ``*.crr.*``, ``*.stream.*``: request and response; with a connection each; throughput.
- ``*.ratio``: rate of ours to that of plain routing or plain VXLAN (``local``, ``vxlan``), of
  nftables (``nft*``), of ours with 10 ports (``flat``): above 1, ours (with more ports) is faster;
  of ``minimal`` and ``tcx`` to ours as it is.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from typing import Final

from bench.live import from_pod, in_front, measure_live, minimal_program
from bench.nftables import Order, nftables
from bench.ours import ENTRIES, Ours, our_cluster
from bench.plain import plain_routing, plain_vxlan
from bench.programs import measure_programs
from bench.report import Figure, report_until_interrupted, summarize
from bench.traffic import Generator, Sample, Way, compiled_generator
from cilia.datapath.programs import Program
from laboratory.layout import Layout
from laboratory.turns import Turns, ratios

PROGRAM_ROUNDS: Final = 60
ROUNDS: Final = 15
STREAMS: Final = 4
"""Runs of throughput in a round: they scatter by tenths."""
SECONDS: Final = 0.3
GB: Final = 1e9
Runs = dict[str, Callable[[], Sample]]
Samples = Mapping[str, Sequence[Sample]]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the data plane beside its rivals.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each kind of traffic (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="only the programs, without traffic: some ten seconds")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    turns = Turns()
    figures = measure_programs(PROGRAM_ROUNDS, turns)
    if not arguments.quick:
        figures = chain(figures, measure_traffic(turns, arguments.rounds))
    return report_until_interrupted(figures, as_json=arguments.json)


def measure_traffic(turns: Turns, rounds: int) -> Iterator[Figure]:
    """Measure real packets, on one node, between two, and by the programs' own time."""
    with ExitStack() as stack:
        generator = stack.enter_context(compiled_generator())
        ours = stack.enter_context(our_cluster())
        yield from measure_one_node(ours, generator, turns, rounds)
        yield from measure_two_nodes(ours, generator, turns, rounds)
        with minimal_program(ours) as minimal:
            yield from measure_live(ours, generator, minimal, turns, rounds)


def measure_one_node(ours: Ours, generator: Generator, turns: Turns, rounds: int) -> Iterator[Figure]:
    """Put ours beside plain routing, nftables and the minimal program."""
    first = ENTRIES[0]
    ways = {"local" if count == first else f"local.{count}": ours.way(pod) for count, pod in ours.local.items()}
    layout = Layout(f"bench-{os.getpid()}-plain")
    with ExitStack() as stack:
        _, ways["plain"] = stack.enter_context(plain_routing(layout, "plain"))
        for order, prefix in ((Order.STATE_FIRST, "nft"), (Order.RULES_FIRST, "nft_rules_first")):
            for count in ENTRIES:
                ways[f"{prefix}.{count}"] = stack.enter_context(nftables(layout, count, order))
        minimal = stack.enter_context(minimal_program(ours))
        own = stack.enter_context(from_pod(ours))
        rivals = {"minimal": minimal, "tcx": own}
        instead = {name: lambda one=program: replaced(generator, ours, one) for name, program in rivals.items()}
        rr = turns.take("requests on one node", runs(generator, "rr", ways) | instead, rounds)
        yield from transactions("rr", rr)
        yield from ratios_on_one_node("rr", rr)
        yield from (ratio(f"{name}.rr.ratio", rr[name], rr["local"]) for name in rivals)
        crr = turns.take("connections on one node", runs(generator, "crr", ways), rounds)
        yield from transactions("crr", crr)
        yield from ratios_on_one_node("crr", crr)
        few = {name: way for name, way in ways.items() if name in ("local", "plain", f"nft.{first}")}
        stream = turns.take("throughput on one node", runs(generator, "stream", few), STREAMS * rounds)
        yield from throughput(stream)
        yield ratio("local.stream.ratio", stream["local"], stream["plain"])


def ratios_on_one_node(kind: str, samples: Samples) -> Iterator[Figure]:
    """Return ours beside plain routing, and with each number of ports beside nftables and ours with
    the fewest.
    """
    yield ratio(f"local.{kind}.ratio", samples["local"], samples["plain"])
    for count in ENTRIES:
        same_size = samples["local" if count == ENTRIES[0] else f"local.{count}"]
        if count != ENTRIES[0]:
            yield ratio(f"flat.{count}.{kind}.ratio", same_size, samples["local"])
        for prefix in ("nft", "nft_rules_first"):
            yield ratio(f"{prefix}.{count}.{kind}.ratio", same_size, samples[f"{prefix}.{count}"])


def measure_two_nodes(ours: Ours, generator: Generator, turns: Turns, rounds: int) -> Iterator[Figure]:
    """Put ours beside plain VXLAN."""
    with plain_vxlan(Layout(f"bench-{os.getpid()}-vxlan")) as plain:
        ways = {"vxlan": ours.way(ours.remote), "plain_vxlan": plain}
        for kind, name, count in (
            ("rr", "requests", rounds),
            ("crr", "connections", rounds),
            ("stream", "throughput", STREAMS * rounds),
        ):
            samples = turns.take(f"{name} over VXLAN", runs(generator, kind, ways), count)
            yield from throughput(samples) if kind == "stream" else transactions(kind, samples)
            yield ratio(f"vxlan.{kind}.ratio", samples["vxlan"], samples["plain_vxlan"])


def replaced(generator: Generator, ours: Ours, program: Program) -> Sample:
    """Run requests and responses over a program at TCX links, in front of what the agent has at the
    pods' blocks.
    """
    with in_front(program, ours):
        return generator.run("rr", ours.way(ours.local[ENTRIES[0]]), SECONDS)


def runs(generator: Generator, mode: str, ways: Mapping[str, Way]) -> Runs:
    """Return the runs of one kind of traffic."""
    return {name: lambda way=way: generator.run(mode, way, SECONDS) for name, way in ways.items()}  # type: ignore[misc]


def ratio(name: str, one: Sequence[Sample], other: Sequence[Sample]) -> Figure:
    """Return the quotient of two rates."""
    return summarize(name, "ratio", ratios([each.per_second for each in one], [each.per_second for each in other]))


def transactions(mode: str, samples: Samples) -> list[Figure]:
    """Return rate, latency and CPU time of every subject's transactions."""
    figures = []
    for name, each in samples.items():
        prefix = f"{name}.{mode}"
        figures.append(summarize(f"{prefix}.per_s", "/s", [one.per_second for one in each]))
        figures.append(summarize(f"{prefix}.p50_us", "us", [one.p50_ns / 1e3 for one in each]))
        figures.append(summarize(f"{prefix}.p99_us", "us", [one.p99_ns / 1e3 for one in each]))
        figures.append(summarize(f"{prefix}.cpu_us", "us", [one.cpu_seconds / one.count * 1e6 for one in each]))
    return figures


def throughput(samples: Samples) -> list[Figure]:
    """Return rate and CPU time of every subject's stream."""
    figures = []
    for name, each in samples.items():
        figures.append(summarize(f"{name}.stream.gbit_s", "Gbit/s", [one.per_second * 8 / 1e9 for one in each]))
        cpu = [one.cpu_seconds / one.count * GB for one in each]
        figures.append(summarize(f"{name}.stream.cpu_s_per_gb", "s/GB", cpu))
    return figures


if __name__ == "__main__":
    sys.exit(main())
