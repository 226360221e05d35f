"""Ledger of revisions in force: acknowledgements of agents, aggregated per node. Pure.

A revision concerns the nodes that have endpoints of the subjects whose resolved policy it changed.
Every replica hears every acknowledgement, so any replica can answer.
"""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Final

from cilia.contracts.ids import Identity, NodeName, Revision
from cilia.contracts.realisation import Acknowledgement, NodeRealised, Realised

REMEMBERED_CHANGES: Final = 4096
REMEMBERED_IDENTITIES: Final = 1024
"""Identities whose last change is kept: agents wait for it when a pod is to be ready."""
REMEMBERED_ACKNOWLEDGEMENTS: Final = 8
"""Acknowledgements kept for one subject on one node: a wait finds the first for its revision."""

EndpointCounts = Mapping[Identity, Mapping[NodeName, int]]
"""Numbers of endpoints by subject identity and node."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Change of resolved policy by one revision."""

    subjects: frozenset[Identity]
    accepted_ns: int
    """Unix time in ns."""
    stored_ns: int = 0
    """Unix time at which this replica heard of it from the kvstore; 0: not known."""


class RealisationLedger:
    """Ledger of changes of resolved policy, and of their acknowledgements."""

    def __init__(self) -> None:
        self._changes: OrderedDict[Revision, Changed] = OrderedDict()
        self._identities: OrderedDict[Identity, tuple[Revision, Changed]] = OrderedDict()
        self._acks: dict[NodeName, dict[Identity, deque[tuple[Revision, int]]]] = defaultdict(dict)
        self._since = Revision(0)
        self._newest = Revision(0)

    @property
    def newest(self) -> Revision:
        """The newest revision that changed policies; 0 if there was none."""
        return next(reversed(self._changes), self._newest)

    def start(self, revision: Revision, newest: Revision, nodes: Set[NodeName]) -> None:
        """Forget all changes: this replica resolved everything anew as of ``revision``.

        Args:
            newest: Revision of the last change of the policies that there are.
            nodes: Nodes that have endpoints; acknowledgements of others go.
        """
        for node in self._acks.keys() - nodes:
            self.forget_node(node)
        self._changes.clear()
        self._identities.clear()
        self._newest = newest
        self._since = revision

    def remembers(self, revision: Revision) -> bool:
        """Tell whether the changes of ``revision`` are known; otherwise agents must be asked."""
        return revision > self._since

    def change(self, revision: Revision, subjects: Iterable[Identity], accepted_ns: int, stored_ns: int = 0) -> None:
        """Take note of the subjects whose resolved policy ``revision`` changed."""
        self._changes[revision] = Changed(frozenset(subjects), accepted_ns, stored_ns)
        while len(self._changes) > REMEMBERED_CHANGES:
            self._since, _ = self._changes.popitem(last=False)

    def change_identities(
        self, revision: Revision, identities: Iterable[Identity], subjects: frozenset[Identity], stored_ns: int
    ) -> None:
        """Take note of the subjects whose resolved policy changed with some identities."""
        for identity in identities:
            self._identities[identity] = (revision, Changed(subjects, stored_ns, stored_ns))
            self._identities.move_to_end(identity)
        while len(self._identities) > REMEMBERED_IDENTITIES:
            self._identities.popitem(last=False)

    def progress_of_identity(self, identity: Identity, endpoint_counts: EndpointCounts) -> Realised:
        """Return how far the nodes are whose policy the last change of an identity concerns.

        One that isn't remembered has not changed for long, or not since this replica started.
        """
        revision, changed = self._identities.get(identity, (Revision(0), Changed(frozenset(), 0)))
        return self._progress(revision, changed, endpoint_counts)

    def acknowledge(self, ack: Acknowledgement) -> None:
        """Take note of what a node has in force; late and repeated messages do no harm."""
        of_node = self._acks[ack.node]
        for subject, sequence in ack.subjects.items():
            log = of_node.setdefault(subject, deque(maxlen=REMEMBERED_ACKNOWLEDGEMENTS))
            if not log or log[-1][0] < sequence:
                log.append((sequence, ack.realised_ns))

    def forget_node(self, node: NodeName) -> None:
        """Forget the acknowledgements of a node that has no endpoint any more."""
        self._acks.pop(node, None)

    def progress(
        self, revision: Revision, endpoint_counts: EndpointCounts, *, subjects: Iterable[Identity] | None = None
    ) -> Realised:
        """Return how far the concerned nodes are with ``revision``.

        Args:
            endpoint_counts: Where the endpoints of each subject live now.
            subjects: The subjects that matter, where :meth:`remembers` says that it is not known.
        """
        changed = self._changes.get(revision, Changed(frozenset(subjects or ()), 0))
        return self._progress(revision, changed, endpoint_counts)

    def _progress(self, revision: Revision, changed: Changed, endpoint_counts: EndpointCounts) -> Realised:
        concerned: dict[NodeName, list[tuple[Identity, int]]] = defaultdict(list)
        for subject in changed.subjects:
            for node, endpoints in endpoint_counts.get(subject, {}).items():
                concerned[node].append((subject, endpoints))
        nodes, stragglers = [], []
        for node, on_node in sorted(concerned.items()):
            realised_ns = self._realised_ns(node, revision, [subject for subject, _ in on_node])
            if realised_ns is None:
                stragglers.append(node)
                continue
            milliseconds = max(0, realised_ns - changed.accepted_ns) / 1e6 if changed.accepted_ns else 0.0
            nodes.append(NodeRealised(node, sum(count for _, count in on_node), milliseconds))
        storing = max(0, changed.stored_ns - changed.accepted_ns) / 1e6 if changed.accepted_ns else 0.0
        return Realised(revision, not stragglers, tuple(nodes), tuple(stragglers), storing)

    def has_realised(
        self, node: NodeName, revision: Revision, endpoint_counts: EndpointCounts, subjects: Iterable[Identity]
    ) -> bool:
        """Tell whether a node has ``revision`` in force for all subjects that concern it; see
        :meth:`progress`.
        """
        changed = self._changes.get(revision)
        concerned = changed.subjects if changed is not None else subjects
        here = (subject for subject in concerned if node in endpoint_counts.get(subject, {}))
        return self._realised_ns(node, revision, here) is not None

    def _realised_ns(self, node: NodeName, revision: Revision, subjects: Iterable[Identity]) -> int | None:
        """Return when the last of a node's subjects came into force; None while one has not."""
        last = 0
        for subject in subjects:
            log = self._acks.get(node, {}).get(subject, ())
            first = next((realised_ns for sequence, realised_ns in log if sequence >= revision), None)
            if first is None:
                return None
            last = max(last, first)
        return last
