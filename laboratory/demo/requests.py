"""Requests of the demo, and the drops that monitors report meanwhile."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager

import msgspec

from cilia.contracts.flow_events import Flow
from laboratory.attempts import get
from laboratory.cluster import LocalCluster
from laboratory.demo.screen import Style, align, print_title, say, styled
from laboratory.demo.shop import HTTP, REQUESTS
from laboratory.pod import Pod


async def try_requests(
    cluster: LocalCluster, pods: dict[str, Pod], title: str, *, allowed: Set[tuple[str, str]]
) -> list[str]:
    """Try the shop's requests by IPv4 and IPv6; return what came out otherwise than ``allowed``."""
    print_title(title)
    tries = [(client, server, address) for client, server in REQUESTS for address in pods[server].addresses]
    async with _watch_drops(cluster) as drops:
        answers = await asyncio.gather(*(get(pods[client], address, HTTP) for client, _, address in tries))
    surprises = []
    passed: dict[tuple[str, str], list[bool]] = {}
    for (client, server, address), answer in zip(tries, answers, strict=True):
        passed.setdefault((client, server), []).append(answer == server)
        if (answer == server) != ((client, server) in allowed):
            surprises.append(f"{client} -> {server} ({address}): {'passed' if answer else 'did not pass'}")
    _print_outcomes(passed, drops)
    return surprises


def _print_outcomes(passed: dict[tuple[str, str], list[bool]], drops: dict[tuple[str, str], Flow]) -> None:
    rows = []
    for (client, server), outcomes in passed.items():
        outcome = " ".join(styled(Style.GREEN, "200 OK") if came else styled(Style.RED, "dropped") for came in outcomes)
        reason = "" if all(outcomes) else _reason(drops.get((client, server)))
        rows.append((client, f"-> {server}", outcome, reason))
    say(align(rows) + "\n")


def _reason(drop: Flow | None) -> str:
    if drop is None:
        return styled(Style.DIM, "no event")
    return styled(Style.DIM, f"{drop.reason}, {drop.direction} on {drop.node}")


@asynccontextmanager
async def _watch_drops(cluster: LocalCluster) -> AsyncIterator[dict[tuple[str, str], Flow]]:
    """Collect the drops that ``cilia monitor`` shows during the block, by both names."""
    drops: dict[tuple[str, str], Flow] = {}
    words = ("--cluster", cluster.layout.name, "monitor", "--drops", "-o", "json")
    monitor = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cilia.commands.cli", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert monitor.stdout is not None
    assert monitor.stderr is not None
    await monitor.stderr.readline()  # it listens

    async def collect(lines: asyncio.StreamReader) -> None:
        async for line in lines:
            flow = msgspec.json.decode(line, type=Flow)
            drops[flow.source_endpoint, flow.destination_endpoint] = flow

    collecting = asyncio.create_task(collect(monitor.stdout))
    try:
        yield drops
        await asyncio.sleep(0.5)  # events come in batches
    finally:
        monitor.terminate()
        await monitor.wait()
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)
