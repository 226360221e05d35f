"""Identities for prefixes that policies name and that have none: after a restore, or a policy that was written otherwise.

Whoever applies a policy asks for them before; this loop makes good what that missed. On the elected replica only.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cilia.errors import Refused, Unavailable
from services.identity.allocator import Allocator
from services.identity.directory import Directory
from services.identity.prefixes import prefix_labels

log = logging.getLogger(__name__)

ROUND_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class PrefixSupply:
    """Allocates what is lacking. ``run`` goes to the supervisor."""

    allocator: Allocator
    directory: Directory
    elected: Callable[[], bool]

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            if self.elected():
                await self._supply()

    async def _supply(self) -> None:
        for prefix in self.directory.lacking():
            try:
                await self.allocator.reserve(prefix_labels(prefix))
            except (Refused, Unavailable) as error:
                log.warning("prefix %s has no identity: %s", prefix, error)
                return
            log.info("prefix %s was without an identity", prefix)
