"""The machines of the scenarios on one cluster, and every way between them tried at once."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from laboratory.attempts import reaches_icmp, reaches_tcp, reaches_udp
from laboratory.cluster import LocalCluster
from laboratory.echo_servers import echoing
from laboratory.machine import Machine
from laboratory.policies import Policies
from tests.cluster.scenarios.table import CLIENT_SIDE, EVERYTHING, SERVER_SIDE, Scenario

SECONDS: Final = 0.7
ATTEMPTS: Final = 3
"""Attempts of what comes out otherwise: a busy machine may be late."""


class Probe(NamedTuple):
    """One way that traffic may take; ``what`` is a port or ``ping``."""

    source: str
    target: str
    what: str


class Stage:
    """Machines and policies of one cluster with a world."""

    def __init__(self, cluster: LocalCluster) -> None:
        ports = (("http", "TCP", 80), ("admin", "TCP", 81))
        red = {"team": "red"}
        self.machines: dict[str, Machine] = {
            "web": cluster.pod("node1", "shop", "web", {"app": "web"}, named_ports=ports),
            "client": cluster.pod("node2", "shop", "client", {"app": "client", "role": "front"}),
            "worker": cluster.pod("node1", "shop", "worker", {"app": "worker"}),
            "other": cluster.pod("node2", "other", "client", {"app": "client"}, namespace_labels=red),
            "host": cluster.host("node1"),
            "world": cluster.external_host(),
        }
        self._policies = Policies(cluster)

    async def play(self, scenario: Scenario) -> list[str]:
        """Apply a scenario, try all ways, and remove it; return what came out otherwise than it
        says.
        """
        if scenario.text:
            await asyncio.to_thread(self._policies.apply, scenario.text)
        try:
            return await self._try_all(scenario)
        finally:
            await asyncio.to_thread(self._policies.delete_all)

    async def _try_all(self, scenario: Scenario) -> list[str]:
        expected = dict(probes(scenario))
        wrong = list(expected)
        async with self._answering():
            for _ in range(ATTEMPTS):
                results = await asyncio.gather(*(self._reaches(probe) for probe in wrong))
                wrong = [probe for probe, came in zip(wrong, results, strict=True) if came != expected[probe]]
                if not wrong:
                    break
        return [f"{probe}: expected {'to pass' if expected[probe] else 'to be dropped'}" for probe in wrong]

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        async with echoing((self.machines[name] for name in ("web", *CLIENT_SIDE)), tcp=(80, 81), udp=(53,)):
            yield

    async def _reaches(self, probe: Probe) -> bool:
        source, address = self.machines[probe.source], self.machines[probe.target].ipv4
        if probe.what == "ping":
            return await reaches_icmp(source, address, seconds=SECONDS)
        if probe.what == "53":
            return await reaches_udp(source, address, 53, seconds=SECONDS)
        return await reaches_tcp(source, address, int(probe.what), seconds=SECONDS)


def probes(scenario: Scenario) -> Iterator[tuple[Probe, bool]]:
    """Give each way, and whether the scenario lets it pass."""
    for source in SERVER_SIDE:
        allowed = scenario.web.get(source, EVERYTHING).split()
        yield from ((Probe(source, "web", what), what in allowed) for what in EVERYTHING.split())
    for target in CLIENT_SIDE:
        allowed = scenario.out.get(target, EVERYTHING).split()
        yield from ((Probe("client", target, what), what in allowed) for what in EVERYTHING.split())
