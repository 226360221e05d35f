"""The loop that follows etcd: the only writer of the directory and of the tables' state."""

import asyncio

from dataclasses import dataclass, field

from cilia.contracts.ids import Identity
from cilia.contracts.tables import Endpoint, EndpointKey, IdentityRow
from cilia.kvstore import Batch, Replica
from cilia.owner import hand_over
from cilia.table.publisher import TablePublisher
from services.identity.directory import Directory, EndpointChange, IdentityChange


@dataclass(frozen=True, slots=True)
class Mirror:
    """Feeds the directory, and from it the two tables, one commit for each of etcd's revisions."""

    replica: Replica
    directory: Directory
    identities: TablePublisher[Identity, IdentityRow]
    endpoints: TablePublisher[EndpointKey, Endpoint]
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the whole state is here."""

    async def run(self) -> None:
        """Follow etcd until cancelled."""
        async for batch in self.replica.batches():
            self._fold(batch)
            self.ready.set()

    def _fold(self, batch: Batch) -> None:
        if batch.whole:
            self.directory.clear()
        identities: dict[Identity, IdentityRow | None] = {}
        endpoints: dict[EndpointKey, Endpoint | None] = {}
        for change in batch.changes:
            match self.directory.fold(change.key, change.value, change.modified):
                case IdentityChange(identity, row):
                    identities[identity] = row
                case EndpointChange(key, endpoint):
                    endpoints[key] = endpoint
                case None:
                    pass
        hand_over(self.identities, identities, batch, epoch=self.replica.epoch)
        hand_over(self.endpoints, endpoints, batch, epoch=self.replica.epoch)
