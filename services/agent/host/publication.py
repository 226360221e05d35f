"""Publication of the node's addresses: other nodes are told by which they may meet this one.

They are told in full after each registration and after each change, and again until ipam has them.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from cilia.backoff import Backoff
from cilia.bus import Bus
from cilia.contracts.ids import Incarnation, NodeName
from cilia.contracts.ipam import TellAddresses
from cilia.contracts.messages import ProblemCode, Revised
from cilia.errors import Refused, Unavailable
from cilia.notify import Wakeup

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 10.0
REST_SECONDS: Final = 1.0
"""Rest after a publication: an address that comes and goes all the time costs all nodes no more."""


class AddressPublication:
    """Tells ipam the node's addresses. ``run`` goes to the supervisor.

    Args:
        incarnation: Waits for the node's registration, and returns its incarnation.
        addresses: Returns the addresses of this moment.
    """

    def __init__(
        self,
        bus: Bus,
        node: NodeName,
        incarnation: Callable[[], Awaitable[Incarnation]],
        addresses: Callable[[], tuple[str, ...]],
    ) -> None:
        self._bus = bus
        self._node = node
        self._incarnation = incarnation
        self._addresses = addresses
        self._due = Wakeup()
        self._told: TellAddresses | None = None
        self.last_error = ""
        """Reason why others don't know the addresses; empty if they do."""

    def renew(self) -> None:
        """Have the addresses told if they, or the node's incarnation, are others than before."""
        self._due.set()

    async def run(self) -> None:
        """Tell the addresses after each change, until cancelled."""
        backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        while True:
            await self._due.wait()
            if await self._tell():
                backoff.reset()
                await asyncio.sleep(REST_SECONDS)
            else:
                self._due.set()
                await backoff.pause()

    async def _tell(self) -> bool:
        """Tell the addresses; False if that is to be tried again."""
        request = TellAddresses(self._node, await self._incarnation(), self._addresses())
        if request == self._told:
            return True
        try:
            await self._bus.request(self._bus.subjects.request("ipam", "addresses"), request, Revised)
        except Refused as error:
            self.last_error = f"other nodes don't know the addresses: {error}"
            log.warning("%s", self.last_error)
            return error.problem.code is ProblemCode.NOT_FOUND  # the next registration tells them
        except Unavailable as error:
            self.last_error = f"other nodes don't know the addresses: {error}"
            return False
        self._told, self.last_error = request, ""
        return True
