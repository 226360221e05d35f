"""The policy engine: identities and policies in, map states and their differences out.

Pure; no clock, no I/O.

The result is a function of the state alone: whatever the order and grouping of events, it equals
what a new engine computes from the end of them.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from ipaddress import ip_address, ip_network
from typing import Final, assert_never

from cilia.contracts.identities import Reserved, is_reserved
from cilia.contracts.ids import Identity
from cilia.contracts.labels import NAMESPACE, NAMESPACE_LABELS, Label, Labels
from cilia.contracts.tables import PolicyEntry, PolicyKey
from cilia.policy.engine.bound_specs import BoundSpec, BoundSpecs
from cilia.policy.engine.events import (
    EndpointsChanged,
    Event,
    IdentityPut,
    IdentityRemoved,
    ModeSet,
    PolicyPut,
    PolicyRemoved,
)
from cilia.policy.engine.groups import Difference, Group, GroupKey
from cilia.policy.engine.options import Mode, Options
from cilia.policy.engine.reserved import reserved_labels
from cilia.policy.engine.rules import CIDR, CIDR_GROUP, RESERVED, LabelView, Policy, Prefix, PrefixGroup, Spec
from cilia.policy.engine.selectors import ContainerPort, Peer, Selection, SelectorIndex, view_peer

INIT: Final = Identity(Reserved.INIT)
NO_PORTS: Final = frozenset[ContainerPort]()


class Engine:
    """Holds the state and answers each batch of events with what it changed."""

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or Options()
        self._mode = self._options.mode
        self._audit = False
        self._index = SelectorIndex()
        self._labels: dict[Identity, Labels] = {}
        self._workloads: set[Identity] = set()
        self._addresses: dict[Identity, dict[str, Prefix]] = {}
        self._ports: dict[Identity, frozenset[ContainerPort]] = {}
        self._specs = BoundSpecs(self._index)
        self._idle_groups: set[Group] = set()
        self._built: set[Group] = set()
        """Groups that were built in the batch under way, from what selectors select at its end."""
        self._groups: dict[GroupKey, Group] = {}
        self._using: defaultdict[Selection, set[Group]] = defaultdict(set)
        self._group_of: dict[Identity, Group] = {}
        self._prefix_groups: dict[str, PrefixGroup] = {}
        self._named: dict[Prefix, LabelView] = {}
        self._prefixes: set[Prefix] | None = None
        self._stale_subjects: set[Identity] = set()
        self._stale_peers: defaultdict[Identity, set[Selection]] = defaultdict(set)
        for identity, labels in reserved_labels(self._options.dual_stack).items():
            self._put_identity(identity, labels)

    @property
    def subjects(self) -> Set[Identity]:
        """The identities that have a map state."""
        return self._group_of.keys()

    @property
    def labels(self) -> Mapping[Identity, Labels]:
        """Labels of every identity that there is."""
        return self._labels

    @property
    def mode(self) -> Mode:
        """The enforcement mode in force."""
        return self._mode

    @property
    def audit(self) -> bool:
        """Tell whether all denials are let through and reported."""
        return self._audit

    @property
    def options(self) -> Options:
        """Options that the engine was made with."""
        return self._options

    @property
    def named(self) -> Mapping[Prefix, LabelView]:
        """Labels that groups give their prefixes."""
        return self._named

    @property
    def prefixes(self) -> Set[Prefix]:
        """Prefixes that policies and groups name."""
        if self._prefixes is None:
            self._prefixes = {prefix for policy in self.policies.values() for prefix in policy.prefixes}
        return self._prefixes

    @property
    def policies(self) -> dict[str, Policy]:
        """Policies that say something, by key."""
        return {key: self.policy(key) for key in (*self._specs, *self._prefix_groups)}

    def policy(self, key: str) -> Policy:
        """Return a policy; one that says nothing if there is none."""
        return Policy(key, self._specs.of_policy(key), group=self._prefix_groups.get(key))

    def peer(self, identity: Identity) -> Peer | None:
        """Return an identity as selectors see it."""
        return self._index.peer(identity)

    def labels_in_namespace(self, namespace: str) -> dict[str, str]:
        """Return the namespace's own labels, as the identities of its workloads bear them."""
        place = Label("k8s", NAMESPACE, namespace)
        member = next((labels for labels in self._labels.values() if place in labels), frozenset[Label]())
        return {label.key: label.value for label in member if label.key.startswith(NAMESPACE_LABELS)}

    def map_state(self, subject: Identity) -> dict[PolicyKey, PolicyEntry]:
        """Return all entries of a subject.

        Raises:
            KeyError: The identity is no subject.
        """
        return dict(self._group_of[subject].state())

    def size(self, subject: Identity) -> int:
        """Return how many entries a subject has; 0 if the identity is none."""
        group = self._group_of.get(subject)
        return group.size if group is not None else 0

    def apply(self, events: Iterable[Event]) -> dict[Identity, Difference]:
        """Take events that happened together, and return what they changed, by subject.

        The differences of subjects under the same policy are one object. A subject that is gone has
        all its keys removed.

        What a batch takes out of use is kept up to date for one more, in case it comes back: a
        change that was tried may be taken back, or be made after all.
        """
        for event in events:
            self._take(event)
        groups_before = self._regroup()
        touched = self._update_peers()
        differences = self._compare(groups_before, touched)
        for group in touched:
            group.before.clear()
        self._forget_idle(groups_before)
        return differences

    def _forget_idle(self, groups_before: Mapping[Identity, Group | None]) -> None:
        """Drop what was not in use before the batch and still isn't; take note of what no longer
        is.
        """
        emptied = {group for group in groups_before.values() if group is not None and not group.subjects}
        for group in self._idle_groups - emptied:
            if not group.subjects:
                self._drop(group)
        self._specs.release()
        self._idle_groups = emptied

    def _take(self, event: Event) -> None:
        match event:
            case PolicyPut(policy):
                self._put_policy(policy)
            case PolicyRemoved(key):
                self._put_policy(Policy(key, ()))
            case IdentityPut(identity, labels):
                self._put_identity(identity, labels)
            case IdentityRemoved(identity):
                self._remove_identity(identity)
            case EndpointsChanged():
                self._put_endpoints(event)
            case ModeSet(mode, audit):
                if (mode, audit) != (self._mode, self._audit):
                    self._mode, self._audit = mode, audit
                    self._stale_subjects.update(self._group_of)
            case _:
                assert_never(event)

    def _put_group(self, key: str, group: PrefixGroup | None) -> None:
        """Take a group of prefixes, or that it is gone; identities within see its labels anew."""
        if self._prefix_groups.get(key) == group:
            return
        if group is None:
            del self._prefix_groups[key]
        else:
            self._prefix_groups[key] = group
        self._named = {}
        for each in self._prefix_groups.values():
            for prefix in each.prefixes:
                view = self._named.setdefault(prefix, {})
                view.update({(CIDR_GROUP, name): value for name, value in each.labels})
        for identity, labels in self._labels.items():
            if any(label.source == CIDR for label in labels):
                self._put_identity(identity, labels)

    def _put_policy(self, policy: Policy) -> None:
        self._prefixes = None
        self._put_group(policy.key, policy.group)
        self._stale_subjects |= self._specs.put(policy)

    def _put_identity(self, identity: Identity, labels: Labels) -> None:
        self._labels[identity] = labels
        if self._may_be_subject(identity, labels):
            self._workloads.add(identity)
        else:
            self._workloads.discard(identity)
        self._replace_peer(identity, self._view(identity))

    def _view(self, identity: Identity) -> Peer:
        return view_peer(
            identity,
            self._labels[identity],
            addresses=self._addresses.get(identity, {}).values(),
            ports=self._ports.get(identity, NO_PORTS),
            named=self._named,
        )

    def _remove_identity(self, identity: Identity) -> None:
        self._labels.pop(identity, None)
        self._workloads.discard(identity)
        self._replace_peer(identity, None)

    def _put_endpoints(self, event: EndpointsChanged) -> None:
        identity = event.identity
        addresses = self._addresses.setdefault(identity, {})
        added = {text: ip_network(ip_address(text)) for text in event.addresses.difference(addresses)}
        gone = [addresses.pop(text) for text in addresses.keys() - event.addresses]
        addresses.update(added)
        same_ports = self._ports.pop(identity, NO_PORTS) == event.ports
        if event.ports:
            self._ports[identity] = event.ports
        if not addresses:
            del self._addresses[identity]
        if identity not in self._labels:
            return
        if not same_ports:
            self._put_identity(identity, self._labels[identity])
        elif changed := self._index.readdress(self._view(identity), added.values(), gone):
            self._stale_peers[identity] |= changed
            self._stale_subjects.add(identity)

    def _replace_peer(self, identity: Identity, peer: Peer | None) -> None:
        concerned = self._stale_peers[identity]
        concerned |= self._index.selecting(identity)
        if peer is None:
            self._index.remove(identity)
        else:
            self._index.put(peer)
        concerned |= self._index.selecting(identity)
        self._stale_subjects.add(identity)

    def _may_be_subject(self, identity: Identity, labels: Labels) -> bool:
        if is_reserved(identity):
            return identity in self._options.reserved_subjects
        return not any(label.source in (CIDR, RESERVED) for label in labels)

    def _regroup(self) -> dict[Identity, Group | None]:
        """Give each stale subject its group of now; return the groups that the changed ones had."""
        before: dict[Identity, Group | None] = {}
        alike: dict[frozenset[Selection], Group] = {}
        for subject in self._stale_subjects:
            old = self._group_of.get(subject)
            new = self._group_among(alike, subject) if subject in self._workloads else None
            if old is new:
                continue
            before[subject] = old
            if old is not None:
                old.subjects.discard(subject)
                del self._group_of[subject]
            if new is not None:
                new.subjects.add(subject)
                self._group_of[subject] = new
        self._stale_subjects.clear()
        return before

    def _group_among(self, alike: dict[frozenset[Selection], Group], subject: Identity) -> Group:
        """Return a subject's group; ``alike`` are those of the batch that selectors alone
        determine.
        """
        selections = frozenset(self._index.selecting(subject))
        group = alike.get(selections) if subject != INIT else None
        if group is None:
            key = self._key_of(subject)
            group = self._group_for(key)
            if subject != INIT and not _has_named_ingress(key.specs):
                alike[selections] = group
        return group

    def _group_for(self, key: GroupKey) -> Group:
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(key)
            group.build(self._index)
            self._built.add(group)
            for selection in group.selections:
                self._using[selection].add(group)
        return group

    def _key_of(self, subject: Identity) -> GroupKey:
        if self._mode is Mode.NEVER:
            return GroupKey(frozenset(), open_ingress=True, open_egress=True, admits_host=False)
        specs = self._specs.of_subject(self._index.selecting(subject))
        closed = self._mode is Mode.ALWAYS or subject == INIT
        return GroupKey(
            specs,
            open_ingress=not closed and not any(_closes(bound.spec, egress=False) for bound in specs),
            open_egress=not closed and not any(_closes(bound.spec, egress=True) for bound in specs),
            admits_host=self._options.admit_host and (subject != INIT or _has_ingress(specs)),
            own_ports=self._own_ports(subject, specs),
            audited=self._audit,
        )

    def _own_ports(self, subject: Identity, specs: frozenset[BoundSpec]) -> frozenset[ContainerPort]:
        return self._ports.get(subject, NO_PORTS) if _has_named_ingress(specs) else frozenset()

    def _drop(self, group: Group) -> None:
        if self._groups.get(group.key) is group:
            del self._groups[group.key]
        for selection in group.selections:
            self._using[selection].discard(group)
            if not self._using[selection]:
                del self._using[selection]

    def _update_peers(self) -> set[Group]:
        touched = set()
        for identity, selections in self._stale_peers.items():
            concerned = {group for item in selections for group in self._using.get(item, ())}
            for group in concerned - self._built:
                group.update(identity, self._index)
                touched.add(group)
        self._stale_peers.clear()
        self._built.clear()
        return touched

    def _compare(self, groups_before: dict[Identity, Group | None], touched: set[Group]) -> dict[Identity, Difference]:
        known: dict[tuple[Group | None, Group | None], Difference] = {}
        subjects = [(subject, old, self._group_of.get(subject)) for subject, old in groups_before.items()]
        subjects += (
            (subject, group, group) for group in touched for subject in group.subjects if subject not in groups_before
        )
        differences = {}
        for subject, old, new in subjects:
            if (old, new) not in known:
                known[old, new] = (new or Group(_EMPTY)).change_since(old)
            if known[old, new]:
                differences[subject] = known[old, new]
        return differences


_EMPTY: Final = GroupKey(frozenset(), open_ingress=False, open_egress=False, admits_host=False)


def _closes(spec: Spec, *, egress: bool) -> bool:
    return spec.isolates(egress) and not spec.audit


def _has_named_ingress(specs: Iterable[BoundSpec]) -> bool:
    return any(rule.is_named and not rule.egress for bound in specs for rule in bound.spec.rules)


def _has_ingress(specs: frozenset[BoundSpec]) -> bool:
    return any(not rule.egress for bound in specs for rule in bound.spec.rules)
