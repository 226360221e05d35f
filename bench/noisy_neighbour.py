"""Floods of one pod, and what a neighbour on the same node notices: its rate of requests, its loss,
and how long a change of policy takes.

``python -m bench.noisy_neighbour [--quick] [--rounds N] [--json]``. Quiet moments and floods take
turns within a round. Where requests are counted, the flood and both ends of them are pinned to one
CPU and have the same priority, so that half of the quiet rate is what a fair share of it gives.

Floods: ``flows``, datagrams that each begin a flow; ``drops``, datagrams that policy denies;
``dns``, queries from fresh ports to the resolver that the neighbour asks, through the node's
address.

Figures, by name:

- ``neighbour.FLOOD.rr.per_s``, ``neighbour.quiet.rr.per_s``: requests and responses in a second;
  ``neighbour.FLOOD.rr.ratio``: beside the quiet rate.
- ``neighbour.FLOOD.policy_realised.ms``: a change of policy from the request until the kernel holds
  it, without what storing it takes; ``.ratio``: beside the quiet time.
- ``neighbour.FLOOD.loss``: packets of an established flow, and queries from fresh ports, that were
  not answered.
- ``neighbour.rr.ratio``, ``neighbour.policy_realised.ratio``, ``neighbour.loss``: the worst of the
  floods.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import count
from time import sleep
from typing import Final, TypeVar

from msgspec.structs import replace

from bench.endpoint import POLICY, apply
from bench.report import Figure, report_until_interrupted, summarize
from bench.traffic import CPU, PORT, Generator, Way, compiled_generator
from laboratory.attempts import reaches_udp
from laboratory.cluster import LocalCluster
from laboratory.echo_servers import echoing
from laboratory.flood import flooding
from laboratory.layout import netns_path
from laboratory.machine import Machine
from laboratory.pod import Pod
from laboratory.policies import Policies
from laboratory.streams import steady_udp
from laboratory.turns import Turns, ratios

S = TypeVar("S")
QUIET: Final = "quiet"
ROUNDS: Final = 8
QUICK_ROUNDS: Final = 2
SECONDS: Final = 1.0
LOSS_SECONDS: Final = 20.0
"""Time of a flood in which loss is counted: ``dns`` asks for more ports than a node has."""
QUICK_LOSS_SECONDS: Final = 4.0
ADVANCE_SECONDS: Final = 0.5
"""Time for which a flood goes on before anything is measured."""
CHANGES: Final = 3
"""Changes of policy in a round."""
ECHO, RESOLVER, CLOSED = 7, 53, 9
OPEN: Final = (10_000, 60_000)
"""Ports of the sink that are open, though nobody listens."""
QUERIES_PER_SECOND: Final = 4000
POLICIES: Final = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: server, namespace: bench}
spec:
  endpointSelector: {matchLabels: {role: server}}
  ingress: [{fromEndpoints: [{matchLabels: {role: user}}]}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: sink, namespace: bench}
spec:
  endpointSelector: {matchLabels: {role: sink}}
  ingress:
  - fromEndpoints: [{matchLabels: {role: noisy}}]
    toPorts: [{ports: [{port: "10000", endPort: 60000, protocol: UDP}]}]
"""
Flood = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """A node with a pod that floods, one that asks, and whom they ask."""

    cluster: LocalCluster
    noisy: Pod
    user: Pod
    server: Pod
    sink: Pod
    resolver: Machine

    def floods(self, cpu: int | None = None) -> dict[str, Flood]:
        """Return what the noisy pod does, by name; nothing, to begin with.

        Args:
            cpu: Processor to do it on, with the priority that traffic has; None: as any process.
        """
        return {
            QUIET: nullcontext,
            "flows": partial(flooding, self.noisy, self.sink.ipv4, *OPEN, fresh=True, cpu=cpu),
            "drops": partial(flooding, self.noisy, self.sink.ipv4, CLOSED, cpu=cpu),
            "dns": partial(
                flooding,
                self.noisy,
                self.resolver.ipv4,
                RESOLVER,
                fresh=True,
                per_second=QUERIES_PER_SECOND,
                cpu=cpu,
            ),
        }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure what a pod notices of its neighbour's flood.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each measurement (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="less of everything: under a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    rounds = QUICK_ROUNDS if arguments.quick else arguments.rounds
    seconds = QUICK_LOSS_SECONDS if arguments.quick else LOSS_SECONDS
    return report_until_interrupted(measure(Turns(), rounds, seconds), as_json=arguments.json)


def measure(turns: Turns, rounds: int, loss_seconds: float) -> Iterator[Figure]:
    """Measure all of it on one cluster."""
    with ExitStack() as stack:
        generator = stack.enter_context(compiled_generator())
        here = stack.enter_context(neighbours())
        yield from measure_requests(here, generator, turns, rounds)
        yield from measure_policy(here, turns, rounds)
        yield from measure_loss(here, turns, loss_seconds)


@contextmanager
def neighbours() -> Iterator[Neighbours]:
    """One node with all of them, policy in force, for the block."""
    cluster = LocalCluster.up(f"neighbour-{os.getpid()}", nodes=1, external_host=True)
    try:
        noisy, user, server, sink = (
            cluster.pod("node1", "bench", role, {"role": role}) for role in ("noisy", "user", "server", "sink")
        )
        for app in ("web", "client"):
            cluster.pod("node1", "bench", app, {"app": app})
        Policies(cluster).apply(POLICIES)
        yield Neighbours(cluster, noisy, user, server, sink, cluster.external_host())
    finally:
        cluster.down()


def measure_requests(here: Neighbours, generator: Generator, turns: Turns, rounds: int) -> Iterator[Figure]:
    """Measure the user's requests and responses in a second of time, whoever has the CPU."""
    way = Way(netns_path(here.user.network), netns_path(here.server.network), here.server.ipv4, PORT)

    def rate() -> float:
        sample = generator.run("rr", way, SECONDS, shares_cpu=True)
        return sample.count / sample.seconds

    rates = turns.take("requests", during(here.floods(CPU), rate), rounds)
    yield from (summarize(f"neighbour.{name}.rr.per_s", "/s", each) for name, each in rates.items())
    yield from beside_quiet("rr", rates, is_rate=True)


def measure_policy(here: Neighbours, turns: Turns, rounds: int) -> Iterator[Figure]:
    """Measure changes of a policy that concerns neither of them."""
    ports = count(1000)

    def realise() -> float:
        took = []
        for _ in range(CHANGES):
            realised = apply(here.cluster, POLICY % next(ports))
            took.append(max(node.milliseconds for node in realised.nodes) - realised.storing_milliseconds)
        return sum(took) / CHANGES

    times = turns.take("changes of policy", during(here.floods(), realise), rounds)
    yield from (summarize(f"neighbour.{name}.policy_realised.ms", "ms", each) for name, each in times.items())
    yield from beside_quiet("policy_realised", times, is_rate=False)


def measure_loss(here: Neighbours, turns: Turns, seconds: float) -> Iterator[Figure]:
    """Count what the user misses while the other pod floods."""
    lost = turns.take("loss", during(here.floods(), lambda: asyncio.run(count_lost(here, seconds))), 1)
    yield from (summarize(f"neighbour.{name}.loss", "packets", each) for name, each in lost.items())
    yield summarize("neighbour.loss", "packets", [sum(each[0] for name, each in lost.items() if name != QUIET)])


async def count_lost(here: Neighbours, seconds: float) -> float:
    """Return how many packets and queries of the user had no answer."""
    lost = 0
    ends = asyncio.get_running_loop().time() + seconds
    async with (
        echoing([here.server], udp=[ECHO]),
        echoing([here.resolver], udp=[RESOLVER]),
        steady_udp(here.user, here.server.ipv4, ECHO) as tally,
    ):
        while asyncio.get_running_loop().time() < ends:
            lost += not await reaches_udp(here.user, here.resolver.ipv4, RESOLVER, seconds=2.0)
            await asyncio.sleep(0.01)
    return lost + tally.lost


def during(floods: Mapping[str, Flood], measurement: Callable[[], S]) -> dict[str, Callable[[], S]]:
    """Return a measurement under each flood."""

    def flooded(flood: Flood) -> S:
        with flood():
            sleep(ADVANCE_SECONDS)
            return measurement()

    return {name: partial(flooded, flood) for name, flood in floods.items()}


def beside_quiet(what: str, samples: Mapping[str, list[float]], *, is_rate: bool) -> Iterator[Figure]:
    """Return each flood's figures beside the quiet ones, and the worst of them."""
    found = []
    for name, each in samples.items():
        if name != QUIET:
            found.append(summarize(f"neighbour.{name}.{what}.ratio", "ratio", ratios(each, samples[QUIET])))
    yield from found
    worst = (min if is_rate else max)(found, key=lambda figure: figure.value)
    yield replace(worst, name=f"neighbour.{what}.ratio")


if __name__ == "__main__":
    sys.exit(main())
