"""Waits of clients until a revision is in force everywhere that it concerns.

Acknowledgements arrive by themselves. One may have been lost, or have come before this replica
started; so the nodes that seem late are asked what they have in force. A replica that doesn't
remember what a revision changed compares what the kernels hold with what it resolves itself.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cilia.bus import Bus
from cilia.contracts.agent import EndpointPolicy, EndpointReference, LocalEndpoint, LocalEndpoints
from cilia.contracts.ids import Identity, NodeName, Revision
from cilia.contracts.messages import Empty
from cilia.contracts.realisation import Acknowledgement, Realised, WaitKnown, WaitRealised
from cilia.contracts.tables import PolicyEntry, SubjectKey
from cilia.errors import Refused, Unavailable
from cilia.notify import Broadcast
from services.policy.realisation.ledger import EndpointCounts, RealisationLedger

log = logging.getLogger(__name__)

LONGEST_SECONDS: Final = 60.0
ASK_AFTER_SECONDS: Final = 0.5
"""A node that did not acknowledge for so long is asked."""
ASK_TIMEOUT_SECONDS: Final = 2.0

Resolved = Callable[[Identity], Mapping[SubjectKey, PolicyEntry]]
"""Resolved policy of a subject on this replica."""


@dataclass(frozen=True, slots=True)
class RevisionWaiter:
    """Answers to ``policy.wait`` and ``policy.known``."""

    bus: Bus
    ledger: RealisationLedger
    endpoint_counts: Callable[[], EndpointCounts]
    resolved: Resolved
    reach: Callable[[Revision], Awaitable[None]]
    """Waits until this replica has resolved a revision."""
    progressed: Broadcast
    """News of resolved revisions and of acknowledgements."""

    async def wait(self, request: WaitRealised) -> Realised:
        """Answer once every concerned node has the revision in force, or the time is up: then with
        the stragglers.
        """
        revision = request.revision or self.ledger.newest
        try:
            async with asyncio.timeout(min(max(request.timeout_seconds, 0.0), LONGEST_SECONDS)):
                await self.reach(revision)
                while not (progress := self._progress(revision)).complete:
                    await self._some_progress(revision, list(progress.stragglers))
        except TimeoutError:
            progress = self._progress(revision)
        return progress

    async def known(self, request: WaitKnown) -> Realised:
        """Answer once every node whose policy names an identity has its last change in force, or
        the time is up: then with the stragglers.
        """
        try:
            async with asyncio.timeout(min(max(request.timeout_seconds, 0.0), LONGEST_SECONDS)):
                await self.reach(request.revision)
                while not (progress := self._progress_of(request)).complete:
                    await self.progressed.wait()
        except TimeoutError:
            progress = self._progress_of(request)
        return progress

    def _progress_of(self, request: WaitKnown) -> Realised:
        return self.ledger.progress_of_identity(request.identity, self.endpoint_counts())

    async def _some_progress(self, revision: Revision, stragglers: list[NodeName]) -> None:
        """Wait until all stragglers have acknowledged; ask them, if nobody says anything.

        Of a thousand nodes each acknowledges by itself, so only one is looked at whenever there is
        news.
        """
        counts = self.endpoint_counts()
        while stragglers:
            if not await self._some_news(ASK_AFTER_SECONDS if self.ledger.remembers(revision) else 0.0):
                await asyncio.gather(*(self._ask(node, revision) for node in stragglers))
                return
            while stragglers and self.ledger.has_realised(stragglers[-1], revision, counts, counts):
                stragglers.pop()

    def _progress(self, revision: Revision) -> Realised:
        counts = self.endpoint_counts()
        return self.ledger.progress(revision, counts, subjects=counts)

    async def _some_news(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.progressed.wait()
        except TimeoutError:
            return False
        return True

    async def _ask(self, node: NodeName, revision: Revision) -> None:
        """Ask a node what it has in force, and take that for its acknowledgement."""
        try:
            local = await self.bus.request(
                self.bus.subjects.node(node, "endpoint-list"), Empty(), LocalEndpoints, timeout=ASK_TIMEOUT_SECONDS
            )
            in_force: dict[Identity, Revision] = {}
            for endpoint in local.endpoints:
                in_force[endpoint.identity] = Revision(endpoint.policy_revision)
                if endpoint.policy_revision < revision and await self._matches(node, endpoint, revision):
                    in_force[endpoint.identity] = revision
        except (Unavailable, Refused) as error:
            log.debug("node %s doesn't tell what it has in force: %s", node, error)
            await asyncio.sleep(ASK_AFTER_SECONDS)
            return
        self.ledger.acknowledge(Acknowledgement(node, in_force, len(local.endpoints), time.time_ns()))
        await asyncio.sleep(0.05)

    async def _matches(self, node: NodeName, endpoint: LocalEndpoint, revision: Revision) -> bool:
        """Tell whether an endpoint's kernel holds what is resolved; asked only where changes aren't
        remembered.
        """
        if self.ledger.remembers(revision):
            return False
        subject = self.bus.subjects.node(node, "policy-get")
        policy = await self.bus.request(
            subject, EndpointReference(endpoint.id), EndpointPolicy, timeout=ASK_TIMEOUT_SECONDS
        )
        held = {SubjectKey(endpoint.identity, rule.key): rule.entry for rule in policy.rules}
        return held == dict(self.resolved(endpoint.identity))
