"""Identities of the prefixes that policies name: there, and told apart by every node, before a
policy is stored.

A node that met the policy first would take the prefix's addresses for the world at large: what the
policy denies to them and allows to the rest would pass for a moment. So whoever stores a policy
that names new prefixes asks for their identities, waits until the policies in force are resolved
with them, and then until the nodes tell them apart. A node that doesn't say so in time is not
waited for: it is cut off, or starts.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Set
from dataclasses import dataclass
from typing import Final

from cilia.bus import Bus
from cilia.contracts.agent import AwaitPrefixes
from cilia.contracts.identity_service import AllocatePrefixes
from cilia.contracts.ids import NodeName, Revision
from cilia.contracts.messages import Empty, Revised
from cilia.errors import Refused, Unavailable
from services.policy.resolution.identity_nodes import IdentityNodes

log = logging.getLogger(__name__)

WAIT_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class PrefixReservation:
    """Reservation of identities for prefixes that are about to be named.

    Attributes:
        named: Gives the prefixes that stored policies name.
        reach: Waits until this replica has resolved a revision.
    """

    bus: Bus
    nodes: IdentityNodes
    named: Callable[[], Set[str]]
    reach: Callable[[Revision], Awaitable[None]]

    async def reserve(self, prefixes: Iterable[str]) -> None:
        """Have identities for prefixes that are about to be named, and every node tell the new ones
        apart.

        Raises:
            Refused, Unavailable: The identity service makes none; nothing may name them yet.
        """
        wanted = tuple(sorted(set(prefixes)))
        if not wanted:
            return
        named = self.named()
        new = tuple(prefix for prefix in wanted if prefix not in named)
        subject = self.bus.subjects.request("identity", "prefixes")
        made = await self.bus.request(subject, AllocatePrefixes(wanted), Revised)
        if new:
            await self._spread(new, made.revision)

    async def _spread(self, prefixes: tuple[str, ...], revision: Revision) -> None:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self.reach(revision)
        except TimeoutError:
            log.warning("revision %d is not resolved after %g s", revision, WAIT_SECONDS)
        request = AwaitPrefixes(prefixes, WAIT_SECONDS)
        await asyncio.gather(*(self._ask(node, request) for node in self.nodes.nodes))

    async def _ask(self, node: NodeName, request: AwaitPrefixes) -> None:
        subject = self.bus.subjects.node(node, "prefixes-wait")
        try:
            await self.bus.request(subject, request, Empty, timeout=request.timeout_seconds + 1)
        except (Refused, Unavailable) as error:
            log.warning("node %s does not tell new prefixes apart yet: %s", node, error)
