"""Registration of the node: its lease, its blocks of addresses, and what hangs on the lease.

While ipam or the bus is away the node keeps what it has; when the lease has expired meanwhile, etcd
has dropped the node's rows, and it registers and publishes again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec.structs import replace

from cilia.backoff import Backoff
from cilia.bus import Bus
from cilia.contracts.ids import LeaseId, NodeName
from cilia.contracts.ipam import Granted, GrowBlocks, Registered, RegisterNode
from cilia.contracts.messages import Empty
from cilia.errors import Refused, Unavailable
from cilia.notify import Wakeup
from services.agent.errors import PoolExhausted
from services.agent.node.membership import LONGEST_PAUSE_SECONDS, Action, Membership
from services.agent.node.pool import Addresses, AddressPool

log = logging.getLogger(__name__)


class Registration:
    """The node's lease. ``run`` and ``request_blocks`` go to the supervisor.

    Args:
        own: What the node says of itself.
        pool: Gets the granted blocks.
        lease_file: Keeps the lease over restarts, so that ipam knows the node also with another
            address.
        registered: Called after each registration; publishes what hangs on the lease.
    """

    def __init__(
        self,
        bus: Bus,
        own: RegisterNode,
        pool: AddressPool,
        lease_file: Path,
        registered: Callable[[], Awaitable[None]],
    ) -> None:
        self._bus = bus
        self._membership = Membership(replace(own, lease=read_lease(lease_file)))
        self._lease_file = lease_file
        self._pool = pool
        self._registered = registered
        self._is_member = asyncio.Event()
        self._low = Wakeup()
        self._growing = asyncio.Lock()

    @property
    def node(self) -> NodeName:
        """The node's name."""
        return self._membership.own.name

    @property
    def is_registered(self) -> bool:
        """Registration of the node stands, as far as it knows."""
        return self._is_member.is_set()

    @property
    def last_error(self) -> str:
        """Reason why the node isn't registered, or its lease may expire; else empty."""
        return self._membership.last_error

    async def lease(self) -> LeaseId:
        """Wait until the node is registered and return its lease; bound it with a timeout."""
        await self._is_member.wait()
        return self._membership.lease

    async def run(self) -> None:
        """Register, and keep the lease, until cancelled."""
        while True:
            match self._membership.next_action(is_connected=self._bus.connected):
                case Action.AWAIT_BUS:
                    await self._bus.wait_connected()
                    self._membership.bus_returned()
                case Action.REGISTER:
                    await asyncio.sleep(self._membership.pause_seconds())
                    await self._register()
                case Action.HEARTBEAT:
                    await asyncio.sleep(self._membership.pause_seconds())
                    await self._beat()

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

    async def request_blocks(self) -> None:
        """Ask for another block as soon as addresses run low, until cancelled."""
        backoff = Backoff(LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        while True:
            await self._low.wait()
            async with self._growing:
                try:
                    for version in self._pool.low:
                        await self._add_block(version)
                except PoolExhausted as error:
                    log.warning("%s", error)
                    await backoff.pause()

    async def _add_block(self, version: int) -> None:
        own = self._membership.own
        request = GrowBlocks(self.node, await self.lease(), own.pool if version == 4 else own.pool6)
        try:
            granted = await self._bus.request(self._bus.subjects.request("ipam", "grow"), request, Granted)
        except (Refused, Unavailable) as error:
            raise PoolExhausted(self._pool.blocks, self._pool.used, str(error)) from error
        self._pool.add_block(granted.cidr)

    async def _register(self) -> None:
        subject = self._bus.subjects.request("ipam", "register")
        try:
            answer = await self._bus.request(subject, self._membership.own, Registered)
        except (Refused, Unavailable) as error:
            if self._membership.not_registered(error):
                log.warning("not registered: %s", error)
            return
        self._membership.registered(answer)
        write_lease(self._lease_file, answer.lease)
        for cidr in answer.node.pod_cidrs:
            self._pool.add_block(cidr)
        self._is_member.set()
        log.info("registered", extra={"lease": f"{answer.lease:x}", "blocks": ",".join(answer.node.pod_cidrs)})
        await self._registered()

    async def _beat(self) -> None:
        subject = self._bus.subjects.request("ipam", "heartbeat")
        membership = self._membership
        try:
            await self._bus.request(subject, membership.heartbeat, Empty, timeout=membership.answer_seconds)
        except (Refused, Unavailable) as error:
            if membership.not_beaten(error):
                log.warning("the lease has expired; registering again")
                self._is_member.clear()
            return
        membership.beaten()


def read_lease(path: Path) -> LeaseId:
    """Return the lease that the node had; 0 if that isn't known."""
    try:
        return LeaseId(int(path.read_text(), 16))
    except (FileNotFoundError, ValueError):
        return LeaseId(0)


def write_lease(path: Path, lease: LeaseId) -> None:
    """Keep the node's lease, in one step."""
    fresh = path.with_suffix(".new")
    fresh.write_text(f"{lease:x}\n")
    fresh.replace(path)
