"""Informer of policy: follows policies, identities and endpoints in etcd's order, and is the only
writer of what is resolved.

Resolved policy is a function of etcd's state at a revision. So each revision is one commit of both
tables, and every replica commits the same.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import groupby
from typing import Final, Protocol, TypeVar

import msgspec

from cilia.contracts.explanations import Explained, ExplainFlow
from cilia.contracts.identities import PREFIX_SCOPE
from cilia.contracts.ids import Revision
from cilia.contracts.keys import Keys
from cilia.contracts.tables import ONE_SHARD, Node, PolicyEntry, PolicyObject, SubjectKey
from cilia.errors import Unavailable
from cilia.kvstore import Changes, Etcd, Reset, replicate
from cilia.metrics import Counters
from cilia.notify import Broadcast
from cilia.table.publisher import TablePublisher
from services.policy.realisation.ledger import RealisationLedger
from services.policy.resolution.events import (
    CauseEvent,
    EndpointEvent,
    Event,
    IdentityEvent,
    PolicyEvent,
    identities_of,
    read_event,
)
from services.policy.resolution.identity_nodes import IdentityNodes
from services.policy.resolution.stored import StoredPolicy
from services.policy.resolution.trial import Trials

K = TypeVar("K")
V = TypeVar("V")

REACH_SECONDS: Final = 5.0
_NODE: Final = msgspec.json.Decoder(Node)

Difference = Mapping[SubjectKey, PolicyEntry | None]
"""Entries that are new or different, and None for those that are gone."""


class Resolver(Trials, Protocol):
    """The engine: events of one revision in, difference of resolved policy out."""

    @property
    def counters(self) -> Counters:
        """Work done, for the metrics."""
        ...

    @property
    def rows(self) -> Mapping[str, Mapping[SubjectKey, PolicyEntry]]:
        """Resolved policy of now, by shard."""
        ...

    def load(self, events: Sequence[Event]) -> None:
        """Fold in all that there is, after ``clear``."""
        ...

    def take(self, events: Sequence[Event]) -> Difference:
        """Fold the events in; return what that changes."""
        ...

    def clear(self) -> None:
        """Forget everything; the whole state follows."""
        ...

    def explain(self, request: ExplainFlow, nodes: Sequence[Node]) -> Explained:
        """Explain why a flow is allowed or denied in the state of now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInformer:
    """Informer that feeds the engine, and from it the tables and the ledger of each revision."""

    etcd: Etcd
    keys: Keys
    epoch: int
    resolver: Resolver
    nodes: IdentityNodes
    ledger: RealisationLedger
    policies: TablePublisher[str, PolicyObject]
    resolved: TablePublisher[SubjectKey, PolicyEntry]
    progressed: Broadcast
    """Is told of each revision that is resolved."""
    stored: dict[str, StoredPolicy] = field(default_factory=dict)
    """The policies that it has heard of, by key; one object, which changes."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the whole state is here."""

    async def run(self) -> None:
        """Follow etcd until cancelled."""
        keys = self.keys
        prefixes = (keys.policies, keys.policy_cause, keys.identities, keys.endpoints)
        async for step in replicate(self.etcd, keys.root, prefixes):
            if isinstance(step, Reset):
                self._restart(step)
            else:
                self._advance(step)
            self.progressed.notify()
            self.ready.set()

    def named_prefixes(self) -> frozenset[str]:
        """Return the prefixes that stored policies name."""
        rows = self.policies.changelog.rows.get(ONE_SHARD, {}).values()
        return frozenset(prefix for row in rows for prefix in row.prefixes)

    async def reach(self, revision: Revision) -> None:
        """Wait until ``revision`` is resolved; bound it with a timeout."""
        await self.progressed.wait_until(lambda: self.resolved.changelog.sequence >= revision)

    async def explain(self, request: ExplainFlow) -> Explained:
        """Answer ``policy.explain``.

        Raises:
            Unavailable: This replica doesn't reach the revision that is asked for.
        """
        try:
            async with asyncio.timeout(REACH_SECONDS):
                await self.reach(request.at_least)
        except TimeoutError:
            raise Unavailable("policy", f"revision {request.at_least} is not resolved yet") from None
        nodes = await self._nodes() if _asks_about_address(request) else ()
        explained = self.resolver.explain(request, nodes)
        return msgspec.structs.replace(explained, revision=Revision(self.resolved.changelog.sequence))

    async def _nodes(self) -> Sequence[Node]:
        records, _ = await self.etcd.range(self.keys.nodes)
        return [_NODE.decode(record.value) for record in records]

    def _restart(self, step: Reset) -> None:
        self.resolver.clear()
        self.nodes.clear()
        self.stored.clear()
        events = [read_event(self.keys, record.key, record.value) for record in step.records]
        taken = [event for event in events if event is not None]
        policies = self._note(taken)
        revisions = {
            record.key.removeprefix(self.keys.policies): Revision(record.mod_revision)
            for record in step.records
            if record.key.startswith(self.keys.policies)
        }
        self.stored.update((key, StoredPolicy(row, revisions[key])) for key, row in policies.items() if row is not None)
        self.resolver.load(taken)
        self.policies.reset({key: row for key, row in policies.items() if row is not None}, step.revision, self.epoch)
        self.resolved.reset({}, step.revision, self.epoch)
        self.ledger.start(
            Revision(step.revision), newest=max(revisions.values(), default=Revision(0)), nodes=self.nodes.nodes
        )

    def _advance(self, step: Changes) -> None:
        for revision, group in groupby(step.events, key=lambda event: event.revision):
            events = [
                read_event(self.keys, event.key, None if event.removed else event.record.value) for event in group
            ]
            self._commit(Revision(revision), [event for event in events if event is not None])
        self.policies.commit(step.revision, {})
        self.resolved.commit(step.revision, {})

    def _commit(self, revision: Revision, events: Sequence[Event]) -> None:
        stored_ns = time.time_ns()
        policies, resolved = self._note(events), self.resolver.take(events)
        for key, row in policies.items():
            if row is None:
                self.stored.pop(key, None)
            else:
                self.stored[key] = StoredPolicy(row, revision)
        cause = next((event.cause for event in events if isinstance(event, CauseEvent)), None)
        traceparent = cause.traceparent if cause is not None else ""
        outside = any(map(_is_outside, events))
        together = bool(policies) or outside
        _hand_over(self.resolved, revision, resolved, traceparent, together=together, announce=outside)
        _hand_over(self.policies, revision, policies, traceparent)
        if policies:
            accepted_ns = cause.accepted_ns if cause is not None else stored_ns
            self.ledger.change(revision, (key.subject for key in resolved), accepted_ns, stored_ns)
        elif resolved:
            subjects = frozenset(key.subject for key in resolved)
            self.ledger.change_identities(revision, identities_of(events), subjects, stored_ns)

    def _note(self, events: Iterable[Event]) -> dict[str, PolicyObject | None]:
        """Take note of places; return what became of policies."""
        policies: dict[str, PolicyObject | None] = {}
        for event in events:
            match event:
                case PolicyEvent(key, row):
                    policies[key] = row
                case EndpointEvent():
                    if self.nodes.take(event):
                        self.ledger.forget_node(event.key.node)
        return policies


def _asks_about_address(request: ExplainFlow) -> bool:
    """Tell whether an end is an address, which may be a node's."""
    for end in (request.source, request.destination):
        try:
            ip_address(end.name)
        except ValueError:
            continue
        return True
    return False


def _is_outside(event: Event) -> bool:
    """Tell whether an identity of a prefix came or went: agents wait until every subject knows of
    it.
    """
    return isinstance(event, IdentityEvent) and event.identity >= PREFIX_SCOPE


def _hand_over(
    publisher: TablePublisher[K, V],
    revision: int,
    rows: Mapping[K, V | None],
    cause: str,
    *,
    together: bool = False,
    announce: bool = False,
) -> None:
    upserts = {key: row for key, row in rows.items() if row is not None}
    removes = [key for key, row in rows.items() if row is None]
    publisher.commit(revision, upserts, removes, traceparent=cause, together=together, announce=announce)
