"""Registration of the node: its incarnation, its blocks of addresses, and its heartbeats.

While ipam or the bus is away the node keeps what it has, and so does the cluster. Only a node that
was removed meanwhile (it was silent for very long, or somebody said so) registers anew, maybe
without a block that it had.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from cilia.backoff import Backoff
from cilia.bus import Bus
from cilia.contracts.ids import Incarnation, NodeName, Revision
from cilia.contracts.ipam import Granted, GrowBlocks, Registered, RegisterNode
from cilia.contracts.messages import Empty
from cilia.errors import Refused, Unavailable
from cilia.notify import Wakeup
from services.agent.errors import PoolExhausted
from services.agent.node.membership import LONGEST_PAUSE_SECONDS, Action, Membership
from services.agent.node.pool import Addresses, AddressPool

log = logging.getLogger(__name__)

ANSWER_SECONDS: Final = 2.0
"""Wait for an answer: the next attempt may be another replica's, where this one hangs."""
MEMBERSHIP_FILE: Final = "membership.json"


class Kept(Struct, frozen=True):
    """Membership of the node, as it is kept over restarts."""

    incarnation: Incarnation = Incarnation(0)
    blocks: tuple[str, ...] = ()


class Registration:
    """The node's membership. ``run`` and ``request_blocks`` go to the supervisor.

    Args:
        own: What the node says of itself.
        pool: Gets the granted blocks.
        file: Keeps incarnation and blocks over restarts, so that ipam knows the node also with
            another address, and gives it back what its pods have.
        registered: Called in each registration, with the revision of it, before pods hear of it.
    """

    def __init__(
        self,
        bus: Bus,
        own: RegisterNode,
        pool: AddressPool,
        file: Path,
        registered: Callable[[Revision], Awaitable[None]],
    ) -> None:
        self._bus = bus
        kept = read_membership(file)
        self._membership = Membership(replace(own, incarnation=kept.incarnation, blocks=kept.blocks))
        self._file = file
        self._pool = pool
        self._registered = registered
        self._is_member = asyncio.Event()
        self._low = Wakeup()
        self._beat_due = Wakeup()
        bus.on_reconnect(self._beat_due.set)
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
        """Reason why the node isn't registered, or no heartbeat of it is heard; else empty."""
        return self._membership.last_error

    async def incarnation(self) -> Incarnation:
        """Wait until the node is registered and return its incarnation; bound it with a timeout."""
        await self._is_member.wait()
        return self._membership.incarnation

    def row_went(self) -> None:
        """Note that the table of nodes has no row of this node, or one that lacks blocks of it."""
        if self._is_member.is_set():
            log.warning("the cluster's row of this node is not as it was; registering again")
            self._leave()
            self._beat_due.set()

    async def run(self) -> None:
        """Register, and show that the node lives, until cancelled."""
        while True:
            match self._membership.next_action(is_connected=self._bus.connected):
                case Action.AWAIT_BUS:
                    await self._bus.wait_connected()
                    self._membership.bus_returned()
                case Action.REGISTER:
                    await asyncio.sleep(self._membership.pause_seconds())
                    await self._register()
                case Action.HEARTBEAT:
                    await self._beat_due.wait(self._membership.pause_seconds())
                    if self.is_registered:
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
        incarnation = await self.incarnation()
        request = GrowBlocks(self.node, incarnation, own.pool if version == 4 else own.pool6)
        try:
            granted = await self._bus.request(
                self._bus.subjects.request("ipam", "grow"), request, Granted, timeout=ANSWER_SECONDS
            )
        except (Refused, Unavailable) as error:
            raise PoolExhausted(self._pool.blocks, self._pool.used, str(error)) from error
        if self._membership.incarnation != incarnation:
            raise PoolExhausted(self._pool.blocks, self._pool.used, "the node was removed meanwhile; try again")
        self._pool.add_block(granted.cidr)
        self._keep()

    async def _register(self) -> None:
        subject = self._bus.subjects.request("ipam", "register")
        try:
            answer = await self._bus.request(subject, self._membership.own, Registered, timeout=ANSWER_SECONDS)
        except (Refused, Unavailable) as error:
            if self._membership.not_registered(error):
                log.warning("not registered: %s", error)
            return
        self._membership.registered(answer)
        self._pool.hold(answer.node.pod_cidrs)
        self._keep()
        log.info("registered", extra={"incarnation": answer.incarnation, "blocks": ",".join(answer.node.pod_cidrs)})
        await self._registered(answer.revision)
        self._is_member.set()

    def _leave(self) -> None:
        self._membership.removed()
        self._is_member.clear()

    def _keep(self) -> None:
        blocks = self._pool.blocks
        self._membership.own = replace(self._membership.own, blocks=blocks)
        write_membership(self._file, Kept(self._membership.incarnation, blocks))

    async def _beat(self) -> None:
        subject = self._bus.subjects.request("ipam", "heartbeat")
        membership = self._membership
        try:
            await self._bus.request(subject, membership.heartbeat, Empty, timeout=membership.answer_seconds)
        except (Refused, Unavailable) as error:
            if membership.not_beaten(error):
                log.warning("this node was removed; registering again")
                self._leave()
            return
        membership.beaten()


def read_membership(path: Path) -> Kept:
    """Return the membership that the node had; none if that isn't known."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except (FileNotFoundError, msgspec.DecodeError):
        return Kept()


def write_membership(path: Path, kept: Kept) -> None:
    """Keep the node's membership, in one step that a crash doesn't halve."""
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(msgspec.json.encode(kept))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
