"""Reconciler of the host's addresses: those of the kernel's devices into cilia_host_addresses.

The kernel tells when one comes or goes; then all are read, and what differs is written. They are
read again with each look for drift, should a notice have got lost.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Protocol

from cilia.abi.enums import HostAddressKind
from cilia.backoff import Backoff
from cilia.notify import Wakeup
from cilia.reconcile.plan import Plan
from cilia.reconcile.reconciler import Reconciler, Target
from services.agent.address import text
from services.agent.drift.reconciled import ReconciledDrift
from services.agent.drift.reporter import Drift
from services.agent.host.addresses import HostAddresses
from services.agent.netlink.addresses import DeviceAddress

log = logging.getLogger(__name__)

BATCH: Final = 4096
FIRST_RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 5.0
GATHER_SECONDS: Final = 0.05
"""Rest after a reading: a device that comes up gets its addresses one by one."""


class HostAddressTable(Target[int, HostAddressKind], Protocol):
    """Kernel table of addresses, such as cilia_host_addresses."""

    def read(self) -> dict[int, HostAddressKind]:
        """Return all addresses in it."""
        ...


class HostAddressReconciler(Reconciler[int, HostAddressKind]):
    """Keeps cilia_host_addresses as the kernel's addresses are.

    ``run`` and ``follow`` go to the supervisor, notices of the kernel to ``notice``.

    Args:
        read: Returns the addresses of all devices, and the devices whose addresses are nobody
            else's business; runs in a thread.
        in_thread: Runs it there.
        changed: Called after a change.
    """

    def __init__(
        self,
        addresses: HostAddresses,
        table: HostAddressTable,
        read: Callable[[], tuple[Iterable[DeviceAddress], frozenset[int]]],
        in_thread: Callable[..., Awaitable[Any]],
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        new_backoff = lambda: Backoff(FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS)  # noqa: E731
        super().__init__(
            "host address",
            Plan(addresses.desired, table.read(), new_backoff=new_backoff),
            table,
            addresses.take_changes,
            batch=BATCH,
            wait_complete=_at_once,
            describe=text,
            clock=clock,
        )
        self._addresses = addresses
        self._read = read
        self._read_in_thread = in_thread
        self._changed = changed
        self._noticed = Wakeup()
        self._drift = ReconciledDrift(
            "host addresses", self, table.read, in_thread, describe=text, state=lambda kind: kind.name.lower()
        )

    def notice(self) -> None:
        """Have the addresses read: one may have come or gone."""
        self._noticed.set()

    async def follow(self) -> None:
        """Read the addresses after each notice, until cancelled; what the kernel refuses is tried
        again.
        """
        while True:
            await self._noticed.wait()
            try:
                await self.read()
            except OSError as error:
                log.warning("can't read the addresses of the devices: %s", error)
                self.notice()
            await asyncio.sleep(GATHER_SECONDS)

    async def read(self) -> None:
        """Read the addresses, and write what differs."""
        found, unpublished = await self._read_in_thread(self._read)
        before = self._addresses.own, self._addresses.published
        self._addresses.replace(found, unpublished)
        self.take_changes()
        if not self.plan.is_complete:
            for _ in self.plan.complete():
                await asyncio.sleep(0)
        await self.write_all()
        if before != (self._addresses.own, self._addresses.published):
            self._changed()

    async def look(self) -> list[Drift]:
        """Compare once with the kernel's addresses, and the table with what was written."""
        await self.read()
        return await self._drift.look()


async def _at_once() -> None:
    return
