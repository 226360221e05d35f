"""Connectivity of every pair of pods, by TCP, UDP and ICMP and every family that both have."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from laboratory.attempts import reaches_icmp, reaches_tcp, reaches_udp
from laboratory.echo_servers import echoing
from laboratory.pod import Pod

HTTP, OTHER, DNS = 80, 8080, 53
CONCURRENT = 64


class Attempt(NamedTuple):
    """Attempt of one pod to reach another."""

    source: str
    destination: str
    protocol: str
    port: int


Expectation = Callable[[Attempt], bool]


@asynccontextmanager
async def serving(pods: Sequence[Pod]) -> AsyncIterator[None]:
    """Have every pod answer on TCP 80 and 8080 and on UDP 53."""
    async with echoing(pods, tcp=(HTTP, OTHER), udp=(DNS,)):
        yield


async def differences(pods: Sequence[Pod], expected: Expectation) -> list[str]:
    """Try every pair in every way; return what came out otherwise than expected."""
    gate = asyncio.Semaphore(CONCURRENT)

    async def one(client: Pod, server: Pod, address: str, protocol: str, port: int) -> str:
        attempt = Attempt(client.name, server.name, protocol, port)
        async with gate:
            reached = await reaches(client, address, protocol, port)
        wanted = expected(attempt)
        return "" if reached == wanted else f"{attempt}: {'reached' if reached else 'did not reach'} {address}"

    ways = (("tcp", HTTP), ("tcp", OTHER), ("udp", DNS), ("icmp", 8))
    tries = [
        one(client, server, address, *way)
        for client in pods
        for server in pods
        if client is not server
        for address in server.addresses
        for way in ways
    ]
    return [outcome for outcome in await asyncio.gather(*tries) if outcome]


async def reaches(client: Pod, address: str, protocol: str, port: int) -> bool:
    """Try once."""
    match protocol:
        case "tcp":
            return await reaches_tcp(client, address, port, seconds=0.9)
        case "udp":
            return await reaches_udp(client, address, port, seconds=0.9)
        case _:
            return await reaches_icmp(client, address, seconds=0.9)
