"""Membership of the node: its lease, its blocks of addresses, and the rows that hang on the lease.

While ipam or the bus is away the node keeps what it has; when the lease has expired meanwhile, etcd
has dropped the node's rows, and it registers and publishes again. Everything is retried with
backoff and jitter.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from cilia.bus import Bus
from cilia.contracts.ids import LeaseId, NodeName
from cilia.contracts.ipam import Granted, GrowBlocks, Heartbeat, Registered, RegisterNode
from cilia.contracts.messages import Empty, ProblemCode
from cilia.errors import Refused, Unavailable
from services.agent.endpoint.pool import Addresses, AddressPool
from services.agent.errors import PoolExhausted

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 10.0


class Registration:
    """The node's lease. ``run`` and ``grow`` go to the supervisor.

    Args:
        register: What the node says of itself.
        pool: Gets the granted blocks.
        lease_file: Keeps the lease over restarts, so that ipam knows the node also with another
            address.
        registered: Called after each registration, before ``lease`` is handed to others; publishes
            what hangs on it.
    """

    def __init__(
        self,
        bus: Bus,
        register: RegisterNode,
        pool: AddressPool,
        lease_file: Path,
        registered: Callable[[Registered], Awaitable[None]],
    ) -> None:
        self._bus = bus
        self._register = replace(register, lease=_read_lease(lease_file))
        self._lease_file = lease_file
        self._pool = pool
        self._registered = registered
        self._standing = asyncio.Event()
        self._low = asyncio.Event()
        self._growing = asyncio.Lock()
        self._answer: Registered | None = None
        self.last_error = "not registered yet"

    @property
    def node(self) -> NodeName:
        """The node's name."""
        return self._register.name

    @property
    def standing(self) -> bool:
        """Tell whether the node is registered, as far as it knows."""
        return self._standing.is_set()

    async def lease(self) -> LeaseId:
        """Wait until the node is registered and return its lease; bound it with a timeout."""
        await self._standing.wait()
        assert self._answer is not None
        return self._answer.lease

    async def run(self) -> None:
        """Register, and keep the lease, until cancelled."""
        while True:
            answer = await self._register_at_last()
            self._answer = answer
            self._register = replace(self._register, lease=answer.lease)
            _keep_lease(self._lease_file, answer.lease)
            for cidr in answer.node.pod_cidrs:
                self._pool.add_block(cidr)
            self.last_error = ""
            self._standing.set()
            log.info("registered", extra={"lease": f"{answer.lease:x}", "blocks": ",".join(answer.node.pod_cidrs)})
            await self._registered(answer)
            await self._keep(answer)
            self._standing.clear()

    async def addresses(self) -> Addresses:
        """Take a free address of each family, from a new block where none of ours has one.

        Raises:
            PoolExhausted: ipam has no block for this node either, or doesn't answer; says why.
        """
        while self._pool.lacking:
            async with self._growing:
                for version in self._pool.lacking:
                    await self._add_block(version)
        addresses = self._pool.allocate()
        if self._pool.low:
            self._low.set()
        return addresses

    async def grow(self) -> None:
        """Ask for another block as soon as addresses run low, until cancelled."""
        while True:
            await self._low.wait()
            self._low.clear()
            async with self._growing:
                try:
                    for version in self._pool.low:
                        await self._add_block(version)
                except PoolExhausted as error:
                    log.warning("%s", error)
                    await asyncio.sleep(LONGEST_PAUSE_SECONDS)

    async def _add_block(self, version: int) -> None:
        pool = self._register.pool if version == 4 else self._register.pool6
        request = GrowBlocks(self.node, await self.lease(), pool)
        try:
            granted = await self._bus.request(self._bus.subjects.request("ipam", "grow"), request, Granted)
        except (Refused, Unavailable) as error:
            raise PoolExhausted(self._pool.blocks, self._pool.used, str(error)) from error
        self._pool.add_block(granted.cidr)

    async def _register_at_last(self) -> Registered:
        pause = FIRST_PAUSE_SECONDS
        subject = self._bus.subjects.request("ipam", "register")
        while True:
            try:
                return await self._bus.request(subject, self._register, Registered)
            except (Refused, Unavailable) as error:
                if str(error) != self.last_error:
                    log.warning("not registered: %s", error)
                self.last_error = str(error)
            if not self._bus.connected:  # its return is heard at once, so backing off would only delay us
                await self._bus.wait_connected()
                pause = FIRST_PAUSE_SECONDS
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _keep(self, answer: Registered) -> None:
        """Send heartbeats until ipam says that the lease is gone."""
        subject = self._bus.subjects.request("ipam", "heartbeat")
        beat = Heartbeat(self.node, answer.lease)
        while True:
            await asyncio.sleep(answer.ttl_seconds / 3 * random.uniform(0.8, 1.0))
            try:
                await self._bus.request(subject, beat, Empty, timeout=max(1.0, answer.ttl_seconds / 3))
                self.last_error = ""
            except Refused as refused:
                if refused.problem.code is ProblemCode.NOT_FOUND:
                    log.warning("the lease has expired; registering again")
                    return
                self.last_error = str(refused)
            except Unavailable as error:
                self.last_error = str(error)


def _read_lease(path: Path) -> LeaseId:
    """Return the lease that the node had; 0 if that isn't known."""
    try:
        return LeaseId(int(path.read_text(), 16))
    except (FileNotFoundError, ValueError):
        return LeaseId(0)


def _keep_lease(path: Path, lease: LeaseId) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(f"{lease:x}\n")
    fresh.replace(path)
