"""Audit of the maps of addresses: whether cilia_ipcache, cilia_endpoints and cilia_gateways hold
what the agent wrote.

A hundred thousand entries are compared by one number, the sum of their hashes, which the kernel's
side computes outside of Python and ours keeps up with each write; only if they differ are the
entries read. A look during which the agent itself wrote tells nothing, and is repeated.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final, TypeVar

from cilia.abi.structs import Endpoint as EndpointValue
from cilia.datapath.errors import DatapathError
from services.agent.address import HOST_BITS, MAPPED_BITS, Prefix, is_ipv4, text
from services.agent.ipcache.desired import Location
from services.agent.ipcache.maps import AddressMaps
from services.agent.metrics.drift import PAUSES, DriftReports
from services.agent.netlink.worker import Worker

log = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")

ATTEMPTS: Final = 5


class AddressDrift:
    """Compares and repairs.

    ``run`` goes to the supervisor, once what a former agent left is adopted.
    """

    def __init__(self, maps: AddressMaps, reader: Worker, faults: DriftReports, *, seconds: float) -> None:
        self._maps = maps
        self._reader = reader
        self._faults = faults
        self._seconds = seconds

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        seconds = self._seconds
        while True:
            await asyncio.sleep(seconds)
            began = time.monotonic()
            try:
                await self._look_at_ipcache()
                await self._look_at_endpoints()
                await self._look_at_gateways()
            except DatapathError as error:
                log.error("the maps of addresses can't be audited: %s", error)
            self._faults.counters.looks += 1
            seconds = max(self._seconds, (time.monotonic() - began) * PAUSES)

    async def _look_at_ipcache(self) -> None:
        digest = await self._undisturbed(self._maps.digest_ipcache)
        if digest in (None, self._maps.digest):
            return
        found = await self._undisturbed(self._maps.look_at_ipcache)
        if found is None:
            return
        wanted = dict(self._maps.located)
        differs = differences(found, wanted)
        self._maps.adopt(found)
        self._maps.write_ipcache({prefix: wanted.get(prefix) for prefix in differs})
        if any(prefix.length < HOST_BITS for prefix in differs):
            self._maps.renew_all()
        self._faults.report("ipcache", [_of_ipcache(prefix, *pair) for prefix, pair in differs.items()])

    async def _look_at_endpoints(self) -> None:
        found = await self._undisturbed(self._maps.look_at_endpoints)
        if found is None:
            return
        differs = differences(found, self._maps.entered)
        for address, (_, wanted) in differs.items():
            if wanted is None:
                self._maps.remove_endpoint(address)
            else:
                self._maps.put_entered(address, wanted)
            self._maps.renew(address)
        self._faults.report("endpoints", [_of_endpoint(address, *pair) for address, pair in differs.items()])

    async def _look_at_gateways(self) -> None:
        found = await self._undisturbed(self._maps.look_at_gateways)
        if found is None:
            return
        differs = differences(found, self._maps.answered)
        self._maps.set_gateways([wanted for _, wanted in differs.values() if wanted is not None])
        self._faults.report("gateways", [_of_gateway(*pair) for pair in differs.values()])

    async def _undisturbed(self, look: Callable[[], R]) -> R | None:
        """Look while we ourselves write nothing; None if we do so all the time."""
        for _ in range(ATTEMPTS):
            writes = self._maps.writes
            seen = await self._reader.run(look)
            if writes == self._maps.writes:
                return seen
        return None


def differences(found: dict[K, V], wanted: dict[K, V]) -> dict[K, tuple[V | None, V | None]]:
    """Return what is found and what is wanted, by key, where they are not the same."""
    return {
        key: (found.get(key), wanted.get(key))
        for key in found.keys() | wanted.keys()
        if found.get(key) != wanted.get(key)
    }


def _of_ipcache(prefix: Prefix, found: Location | None, wanted: Location | None) -> str:
    is_mapped = prefix.length >= MAPPED_BITS and is_ipv4(prefix.address)
    length = prefix.length - (MAPPED_BITS if is_mapped else 0)
    return f"{text(prefix.address)}/{length} was {found or 'missing'}, not {wanted or 'missing'}"


def _of_endpoint(address: int, found: EndpointValue | None, wanted: EndpointValue | None) -> str:
    return f"{text(address)} was {found or 'missing'}, not {wanted or 'missing'}"


def _of_gateway(found: int | None, wanted: int | None) -> str:
    return f"{text(found or 0)} was there, not {text(wanted or 0)}"
