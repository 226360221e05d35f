"""The record itself: distinct flows of the cluster, added up, bounded. Pure."""

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from heapq import nsmallest
from itertools import islice
from typing import Final

import msgspec
from msgspec import structs

from cilia.contracts.flows import DistinctFlow, FlowPage, FlowPeer, ListFlows, RecordedFlow, RecordedPeer
from cilia.contracts.identities import Reserved, is_remote_node, is_reserved
from cilia.contracts.ids import Identity
from cilia.contracts.labels import NAMESPACE
from cilia.contracts.protocols import protocol_name

MOST_ON_A_PAGE: Final = 1000
MAKE_ROOM: Final = 50
"""Flows of which one goes when there are too many, so that finding the oldest costs each little."""

_RESERVED: Final = {int(item): item.label for item in Reserved if item is not Reserved.UNKNOWN}

LabelsOf = Callable[[Identity], tuple[str, ...] | None]
"""Gives the labels of an allocated identity; None if it isn't known (yet)."""


class FlowTable:
    """Flows by key. Who changes it writes ``new`` and ``grown`` down, and empties them."""

    def __init__(self, limit: int, *, since_ns: int) -> None:
        self._limit = limit
        self._ends: dict[RecordedPeer, RecordedPeer] = {}
        self.since_ns = since_ns
        self.evicted = 0
        self._order: list[str] = []  # keys of rows
        self.rows: dict[str, RecordedFlow] = {}
        self.new: set[str] = set()
        """Keys of flows that are new since it was emptied."""
        self.grown: set[str] = set()
        """Keys of flows whose count or time changed."""

    def restore(self, flows: Iterable[RecordedFlow]) -> None:
        """Take what was written down, the oldest writing first."""
        for flow in flows:
            self.rows[key_of(flow)] = self._shared(flow)
        self._order = sorted(self.rows)
        self._make_room()

    def add(self, flow: RecordedFlow) -> None:
        """Add what was seen to what is known of the same flow."""
        key = key_of(flow)
        known = self.rows.get(key)
        if known is None:
            self.rows[key] = self._shared(flow)
            self.new.add(key)
            insort(self._order, key)
            self._make_room()
            return
        newest = self._shared(flow)
        destination = newest.destination if newest.destination.ports else known.destination
        self.rows[key] = structs.replace(
            known,
            source=newest.source,
            destination=destination,
            count=known.count + flow.count,
            first_ns=min(known.first_ns, flow.first_ns),
            last_ns=max(known.last_ns, flow.last_ns),
        )
        self.grown.add(key)

    def page(self, query: ListFlows) -> FlowPage:
        """Return the flows that a query means, in the order of their keys."""
        limit = min(max(query.limit, 1), MOST_ON_A_PAGE)
        keys = list(islice(self._matching(query), limit + 1))
        flows = tuple(self.rows[key] for key in keys[:limit])
        return FlowPage(flows, keys[limit - 1] if len(keys) > limit else "", self.since_ns, self.evicted)

    def _matching(self, query: ListFlows) -> Iterator[str]:
        namespace = f"k8s:{NAMESPACE}={query.namespace}"
        for at in range(bisect_right(self._order, query.after), len(self._order)):
            flow = self.rows[self._order[at]]
            ends = (flow.source, flow.destination)
            if (
                flow.last_ns >= query.since_ns
                and query.verdict in (None, flow.verdict)
                and (not query.workload or query.workload in (end.workload for end in ends))
                and (not query.namespace or any(namespace in end.labels for end in ends))
            ):
                yield self._order[at]

    def _make_room(self) -> None:
        """Forget what was not seen for longest, flows with outsiders first."""
        if len(self.rows) <= self._limit:
            return
        excess = len(self.rows) - self._limit + self._limit // MAKE_ROOM
        for key in nsmallest(excess, self.rows, key=self._worth):
            del self.rows[key]
            self.new.discard(key)
            self.grown.discard(key)
            self.evicted += 1
        self._order = sorted(self.rows)
        self._ends.clear()

    def _worth(self, key: str) -> tuple[bool, int]:
        flow = self.rows[key]
        return not (flow.source.address or flow.destination.address), flow.last_ns

    def _shared(self, flow: RecordedFlow) -> RecordedFlow:
        """Return a flow whose ends are objects that others share."""
        ends = (self._ends.setdefault(end, end) for end in (flow.source, flow.destination))
        source, destination = ends
        return structs.replace(flow, source=source, destination=destination)


def key_of(flow: RecordedFlow) -> str:
    """Return a short text that is the same for the same ends, port, verdict, side and policy."""
    ends = [(end.labels, end.workload, end.address) for end in (flow.source, flow.destination)]
    parts = (ends, flow.protocol, flow.port, flow.verdict, flow.egress, flow.policy)
    return blake2b(msgspec.msgpack.encode(parts), digest_size=12).hexdigest()


def recorded(seen: DistinctFlow, labels_of: LabelsOf) -> RecordedFlow | None:
    """Return what an agent saw, with labels; None while an identity isn't known."""
    source, destination = _end(seen.source, labels_of), _end(seen.destination, labels_of, seen.ports)
    if source is None or destination is None:
        return None
    return RecordedFlow(
        source,
        destination,
        protocol_name(seen.protocol),
        seen.port,
        seen.verdict,
        seen.egress,
        seen.policy,
        seen.count,
        seen.first_ns,
        seen.last_ns,
    )


def _end(seen: FlowPeer, labels_of: LabelsOf, ports: tuple[tuple[str, str, int], ...] = ()) -> RecordedPeer | None:
    identity = Identity(seen.identity)
    labels: tuple[str, ...] | None
    if seen.address and not (is_reserved(identity) or is_remote_node(identity)):
        labels = (Reserved.WORLD.label,)  # prefixes are what the policies of the day name
    elif is_reserved(identity):
        labels = (_RESERVED.get(identity, Reserved.UNMANAGED.label),)
    else:
        labels = labels_of(identity)
    return None if labels is None else RecordedPeer(labels, seen.workload, seen.address, identity, ports)
