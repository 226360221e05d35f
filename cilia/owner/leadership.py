"""Work of the elected replica only."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from cilia.backoff import Backoff
from cilia.errors import Unavailable
from cilia.table.publisher import TablePublisher

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.1
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 2.0


class Elected(Protocol):
    """A candidate; its leadership may end by its clock, without an event."""

    @property
    def leading(self) -> bool:
        """True while this replica leads."""
        ...


async def publish_while_elected(election: Elected, publishers: Sequence[TablePublisher[Any, Any]]) -> None:
    """Have the tables published while this replica is elected; until cancelled."""
    leading = False
    while True:
        if election.leading != leading:
            leading = election.leading
            for publisher in publishers:
                if leading:
                    publisher.lead()
                else:
                    publisher.follow()
        await asyncio.sleep(POLL_SECONDS)


async def run_while_elected(election: Elected, run: Callable[[], Awaitable[None]]) -> None:
    """Have ``run`` run while this replica is elected, again after Unavailable; until cancelled."""
    backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
    while True:
        if not election.leading:
            await asyncio.sleep(POLL_SECONDS)
            continue
        running = asyncio.ensure_future(run())
        try:
            while election.leading and not running.done():
                await asyncio.wait((running,), timeout=POLL_SECONDS)
            if running.done():
                await running
            backoff.reset()
        except Unavailable as error:
            log.warning("the elected replica's work ended, and begins again: %s", error)
            await backoff.pause()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
