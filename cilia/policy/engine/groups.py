"""Groups of subjects that the same specs select, and their resolved policy.

Subjects with the same policy share one :class:`Group`, and peers that the same selectors of a group
select share one set of entries (here, on the bus and in the kernel:
cilia/policy/engine/peersets.py). So 10,000 identities cost 10,000 references and few sets of
entries, and a new identity costs one lookup for each group that it concerns.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from cilia.contracts.identities import Reserved
from cilia.contracts.ids import Identity
from cilia.contracts.tables import PolicyEntry, PolicyKey
from cilia.policy.engine.bound_specs import BoundSpec
from cilia.policy.engine.mapstate import (
    ALLOW,
    ANY_PEER,
    AUDITED_DEFAULT,
    NO_ENTRIES,
    Entries,
    Match,
    NameLookup,
    RuleEntry,
    expand_rule,
    limit_audited_denials,
    merge_rule_entries,
)
from cilia.policy.engine.peersets import NOTHING, PeerEntries, PeerSets, split_by_direction
from cilia.policy.engine.rules import NamedPort, Rule
from cilia.policy.engine.selectors import ContainerPort, Selection, SelectorIndex

HOST: Final = Identity(Reserved.HOST)
BY_DEFAULT: Final = "\U0010ffff"
"""Key for entries of the enforcement mode, after every policy's, so that a policy's wins."""


@dataclass(frozen=True, slots=True)
class GroupKey:
    """Key of a group: all that determines its state besides the identities of the cluster."""

    specs: frozenset[BoundSpec]
    open_ingress: bool
    open_egress: bool
    """Nothing but audited specs closes the direction by default: whatever no rule denies passes."""
    admits_host: bool
    own_ports: frozenset[ContainerPort] = frozenset()
    """Named ports of the subject, where a rule for ingress names ports."""
    audited: bool = False
    """Every denial is let through and reported."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference in a subject's map state: peer or set of peers, its entries before, and now.

    Keys and entries are made when they are asked for. Ask once, and keep the answer no longer than
    needed.
    """

    changes: tuple[tuple[Identity, Entries, Entries], ...]

    @property
    def upserts(self) -> dict[PolicyKey, PolicyEntry]:
        """Entries that are new or say something else now."""
        return {key: entry for key, entry in self._rows() if entry is not None}

    @property
    def removes(self) -> tuple[PolicyKey, ...]:
        """Keys that are gone."""
        return tuple(key for key, entry in self._rows() if entry is None)

    @property
    def rows(self) -> dict[PolicyKey, PolicyEntry | None]:
        """Both; None stands for a key that is gone."""
        return dict(self._rows())

    def _rows(self) -> Iterator[tuple[PolicyKey, PolicyEntry | None]]:
        for peer, old, new in self.changes:
            for match in old.keys() - new.keys():
                yield _key(peer, match), None
            for match, entry in new.items():
                if old.get(match) != entry:
                    yield _key(peer, match), entry

    @property
    def growth(self) -> int:
        """Number of entries more than before; negative: less."""
        return sum(len(new) - len(old) for _, old, new in self.changes)

    def __bool__(self) -> bool:
        return bool(self.changes)


def lookup_in(ports: frozenset[ContainerPort]) -> NameLookup:
    """Return a lookup among the ports of one identity."""

    def lookup(name: NamedPort) -> Collection[int]:
        return {item.port for item in ports if item.name == name.name and item.protocol == name.protocol}

    return lookup


MergeKey = tuple[frozenset[Selection], frozenset[ContainerPort]]


@dataclass(eq=False)
class Group:
    """Map state of all subjects with one :class:`GroupKey`.

    Attributes:
        any_peer: Entries for any peer.
        entries: Peer, or number of a set of peers -> entries under it; who has none is left out.
        before: What ``entries`` held before the changes of the batch under way; empty between
            batches.
    """

    key: GroupKey
    any_peer: Entries = field(default_factory=dict)
    entries: dict[Identity, Entries] = field(default_factory=dict)
    before: dict[Identity, Entries] = field(default_factory=dict)
    subjects: set[Identity] = field(default_factory=set)
    _any_peer_rule_entries: list[RuleEntry] | None = None
    """Kept only if there are audited specs; may be empty then."""
    _rule_entries: dict[Selection, list[RuleEntry]] = field(default_factory=dict)
    _named: dict[Selection, list[tuple[Rule, BoundSpec]]] = field(default_factory=dict)
    _merged: dict[MergeKey, PeerEntries] = field(default_factory=dict)
    _merged_host: dict[MergeKey, PeerEntries] = field(default_factory=dict)
    _peer_entries: dict[Identity, PeerEntries] = field(default_factory=dict)
    _sets: PeerSets = field(default_factory=PeerSets)
    size: int = 0
    """Number of entries."""

    @property
    def selections(self) -> Iterable[Selection]:
        """Selectors of peers whose members matter to the group."""
        return self._rule_entries

    def build(self, index: SelectorIndex) -> None:
        """Compute the state from nothing."""
        rule_entries = list(self._expand_all())
        if any(bound.spec.audit for bound in self.key.specs):
            self._any_peer_rule_entries = rule_entries
            rule_entries = list(limit_audited_denials(rule_entries))
        self.any_peer = merge_rule_entries(rule_entries, audited=self.key.audited)
        self.size = len(self.any_peer)
        selecting: defaultdict[Identity, list[Selection]] = defaultdict(list)
        for selection in self._rule_entries:
            for identity in selection.members:
                selecting[identity].append(selection)
        if self.key.admits_host:
            selecting[HOST] += ()
        for identity, selections in selecting.items():
            self._put(identity, self._merge(identity, frozenset(selections), index))
        self.before.clear()

    def update(self, identity: Identity, index: SelectorIndex) -> None:
        """Take the change of one peer's selectors."""
        self._put(
            identity, self._merge(identity, frozenset(self._rule_entries.keys() & index.selecting(identity)), index)
        )

    def _put(self, identity: Identity, new: PeerEntries) -> None:
        old = self._peer_entries.get(identity, NOTHING)
        if new is old or new.entries == old.entries:
            return
        self._peer_entries[identity] = new
        if not new.parts:
            del self._peer_entries[identity]
        was_clear = self._sets.exchange(old, new)
        for number in was_clear:
            self._write(Identity(number), self._sets.entries(number))
        self._write(identity, self._sets.rows(new))
        turned = {number for number, clear in was_clear.items() if clear != self._sets.is_clear(number)}
        if turned:  # two sets have one number now, or no longer
            for peer, peer_entries in self._peer_entries.items():
                if any(part.number in turned for part in peer_entries.parts):
                    self._write(peer, self._sets.rows(peer_entries))

    def _write(self, row: Identity, entries: Entries) -> None:
        old = self.entries.get(row, NO_ENTRIES)
        if entries is old or entries == old:
            return
        self.size += len(entries) - len(old)
        self.before.setdefault(row, old)
        if entries:
            self.entries[row] = entries
        else:
            del self.entries[row]

    def _expand_all(self) -> Iterator[RuleEntry]:
        """Yield the rule entries for any peer, and file the others under their selectors."""
        for egress, is_open in ((False, self.key.open_ingress), (True, self.key.open_egress)):
            everything = Match(egress, 0, 0, 0)
            isolating = [bound for bound in self.key.specs if bound.spec.isolates(egress)]
            if is_open and not isolating:
                yield RuleEntry(everything, ALLOW, BY_DEFAULT, 0)
            elif is_open:
                yield from (RuleEntry(everything, AUDITED_DEFAULT, bound.policy, bound.cookie) for bound in isolating)
            elif self.key.audited:
                yield RuleEntry(everything, AUDITED_DEFAULT, BY_DEFAULT, 0)
        for bound in self.key.specs:
            for rule, selections in bound.peers:
                if selections is None:
                    own = lookup_in(self.key.own_ports)
                    yield from expand_rule(rule, bound.policy, bound.cookie, own, audit=bound.spec.audit)
                else:
                    self._file(rule, bound, selections)

    def _file(self, rule: Rule, bound: BoundSpec, selections: tuple[Selection, ...]) -> None:
        by_peer = rule.egress and rule.is_named
        own = lookup_in(self.key.own_ports)
        rule_entries = (
            [] if by_peer else list(expand_rule(rule, bound.policy, bound.cookie, own, audit=bound.spec.audit))
        )
        for selection in selections:
            self._rule_entries.setdefault(selection, []).extend(rule_entries)
            if by_peer:
                self._named.setdefault(selection, []).append((rule, bound))

    def _merge(self, identity: Identity, selections: frozenset[Selection], index: SelectorIndex) -> PeerEntries:
        peer = index.peer(identity)
        if peer is None:
            return NOTHING
        ports = peer.ports if self._named and not self._named.keys().isdisjoint(selections) else frozenset()
        merged = self._merged_host if identity == HOST else self._merged
        peer_entries = merged.get((selections, ports))
        if peer_entries is None:
            rule_entries = list(self._rule_entries_of(identity, selections, lookup_in(ports)))
            if self._any_peer_rule_entries is not None:
                rule_entries = list(limit_audited_denials(rule_entries, self._any_peer_rule_entries))
            entries = merge_rule_entries(rule_entries, self.any_peer, audited=self.key.audited)
            peer_entries = merged[selections, ports] = split_by_direction(entries)
        return peer_entries

    def _rule_entries_of(
        self, identity: Identity, selections: frozenset[Selection], lookup: NameLookup
    ) -> Iterator[RuleEntry]:
        if identity == HOST and self.key.admits_host:
            yield RuleEntry(Match(False, 0, 0, 0), ALLOW, BY_DEFAULT, 0)
        for selection in selections:
            yield from self._rule_entries[selection]
            for rule, bound in self._named.get(selection, ()):
                yield from expand_rule(rule, bound.policy, bound.cookie, lookup, audit=bound.spec.audit)

    def state(self) -> Iterator[tuple[PolicyKey, PolicyEntry]]:
        """Yield every key and entry."""
        yield from _keys(ANY_PEER, self.any_peer)
        for identity, entries in self.entries.items():
            yield from _keys(identity, entries)

    def entries_before(self, identity: Identity) -> Entries:
        """Return the entries under a peer or set as they were before the batch under way."""
        return self.before.get(identity, self.entries.get(identity, NO_ENTRIES))

    def change_since(self, old: "Group | None") -> Difference:
        """Return the difference between a group's state before the batch and this one's now."""
        if old is self:
            pairs = ((peer, entries, self.entries.get(peer, NO_ENTRIES)) for peer, entries in self.before.items())
            return _difference(pairs)
        if old is None:
            old = Group(self.key)
        peers = self.entries.keys() | old.entries.keys() | old.before.keys()
        return _difference(
            [
                (ANY_PEER, old.any_peer, self.any_peer),
                *((peer, old.entries_before(peer), self.entries.get(peer, NO_ENTRIES)) for peer in peers),
            ]
        )


def _keys(identity: Identity, entries: Entries) -> Iterator[tuple[PolicyKey, PolicyEntry]]:
    for match, entry in entries.items():
        yield _key(identity, match), entry


def _key(identity: Identity, match: Match) -> PolicyKey:
    egress, protocol, port, bits = match
    return PolicyKey(egress, identity, protocol, port, bits)


def _difference(changes: Iterable[tuple[Identity, Entries, Entries]]) -> Difference:
    differs: dict[tuple[int, int], bool] = {}  # by id: peers share few sets of entries, that outlive the loop
    found = []
    for peer, old, new in changes:
        pair = id(old), id(new)
        if pair not in differs:
            differs[pair] = old is not new and old != new
        if differs[pair]:
            found.append((peer, old, new))
    return Difference(tuple(found))
