"""The loop that follows etcd: the only writer of the cache and of the tables' state."""

import asyncio
from dataclasses import dataclass, field

from cilia.contracts.ids import Identity, Revision
from cilia.contracts.keys import Keys
from cilia.contracts.tables import Endpoint, EndpointKey, IdentityRow, PrefixRow
from cilia.kvstore import Changes, Etcd, Reset, replicate
from cilia.owner import hand_over
from cilia.table.publisher import TablePublisher
from services.identity.cache import Change, EndpointChange, IdentityCache, IdentityChange, PrefixChange


@dataclass(frozen=True, slots=True)
class IdentityInformer:
    """Feeds the cache, and from it the tables."""

    etcd: Etcd
    keys: Keys
    epoch: int
    cache: IdentityCache
    identities: TablePublisher[Identity, IdentityRow]
    endpoints: TablePublisher[EndpointKey, Endpoint]
    prefixes: TablePublisher[str, PrefixRow]
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the whole state is here."""

    async def run(self) -> None:
        """Follow etcd until cancelled."""
        keys = self.keys
        roots = (
            keys.identities,
            keys.identity_refs,
            keys.identities_unused,
            keys.endpoints,
            keys.policies,
            keys.nodes,
        )
        async for step in replicate(self.etcd, keys.root, roots):
            self._take(step)
            self.ready.set()

    def _take(self, step: Reset | Changes) -> None:
        identities: dict[Identity, IdentityRow | None] = {}
        endpoints: dict[EndpointKey, Endpoint | None] = {}
        prefixes: dict[str, PrefixRow | None] = {}
        for change in self._fold(step):
            match change:
                case IdentityChange(identity, row):
                    identities[identity] = row
                case EndpointChange(key, endpoint):
                    endpoints[key] = endpoint
                case PrefixChange(prefix, place):
                    prefixes[prefix] = place
        hand_over(self.identities, identities, step, epoch=self.epoch)
        hand_over(self.endpoints, endpoints, step, epoch=self.epoch)
        hand_over(self.prefixes, prefixes, step, epoch=self.epoch)

    def _fold(self, step: Reset | Changes) -> list[Change]:
        if isinstance(step, Reset):
            self.cache.clear()
            folded = [self.cache.put(each.key, each.value, Revision(each.mod_revision)) for each in step.records]
        else:
            folded = [
                self.cache.delete(each.key)
                if each.removed
                else self.cache.put(each.key, each.record.value, Revision(each.revision))
                for each in step.events
            ]
        return [change for changes in folded for change in changes]
