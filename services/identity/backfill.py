"""Identities for what ought to have one and has none: nodes with labels, and prefixes that policies
name.

Whoever applies a policy asks for its prefixes' before; this loop makes good what that missed, after
a restore, or for a policy that was written otherwise. On the elected replica only.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cilia.errors import Refused, Unavailable
from services.identity.address_labels import is_of_node
from services.identity.allocator import Allocator
from services.identity.cache import IdentityCache

log = logging.getLogger(__name__)

ROUND_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Backfill:
    """Allocates what is missing. ``run`` goes to the supervisor."""

    prefixes: Allocator
    nodes: Allocator
    cache: IdentityCache
    elected: Callable[[], bool]

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            if self.elected():
                await self._backfill()

    async def _backfill(self) -> None:
        for labels in self.cache.missing():
            allocator = self.nodes if is_of_node(labels) else self.prefixes
            try:
                identity, _ = await allocator.reserve(labels)
            except (Refused, Unavailable) as error:
                log.warning("%s has no identity: %s", labels, error)
                return
            log.info("%s has an identity now", labels, extra={"identity": identity})
