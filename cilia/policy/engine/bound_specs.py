"""Specs in force, bound to the selectors that they use, and found by their subjects' selectors.

A spec that is written again as it was keeps its binding, so its subjects stay in their groups.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cilia.contracts.ids import Identity
from cilia.policy.engine.rules import Policy, Rule, Spec
from cilia.policy.engine.selectors import Selection, SelectorIndex


@dataclass(eq=False, slots=True)
class BoundSpec:
    """Spec of a policy that is in force; compared by identity."""

    policy: str
    cookie: int
    spec: Spec
    subject: Selection
    peers: tuple[tuple[Rule, tuple[Selection, ...] | None], ...]

    @property
    def selections(self) -> Iterator[Selection]:
        """Selectors that it uses."""
        yield self.subject
        for _, peers in self.peers:
            yield from peers or ()


class BoundSpecs:
    """Specs in force by policy and by subject selector.

    What goes out of force stays bound until the second :meth:`release`, in case it comes back.
    """

    def __init__(self, index: SelectorIndex) -> None:
        self._index = index
        self._of_policy: dict[str, list[BoundSpec]] = {}
        self._of_subject: defaultdict[Selection, list[BoundSpec]] = defaultdict(list)
        self._retiring: list[BoundSpec] = []
        self._idle: list[BoundSpec] = []

    def __iter__(self) -> Iterator[str]:
        """Yield the keys of policies that have a spec in force."""
        return iter(self._of_policy)

    def of_policy(self, key: str) -> tuple[Spec, ...]:
        """Return the specs of a policy."""
        return tuple(bound.spec for bound in self._of_policy.get(key, ()))

    def of_subject(self, selections: Iterable[Selection]) -> frozenset[BoundSpec]:
        """Return the specs whose subjects one of the selectors selects."""
        return frozenset(bound for selection in selections for bound in self._of_subject.get(selection, ()))

    def put(self, policy: Policy) -> set[Identity]:
        """Put a policy in force as it is now; returns the identities whose specs that changes."""
        outgoing = self._of_policy.pop(policy.key, [])
        concerned: set[Identity] = set()
        kept: list[BoundSpec] = []
        for spec in () if policy.shadow else policy.specs:
            bound = _take_out(outgoing, policy.key, spec)
            if bound is None:
                bound = _take_out(self._idle, policy.key, spec) or self._bind(policy, spec)
                self._of_subject[bound.subject].append(bound)
                concerned |= bound.subject.members
            kept.append(bound)
        for bound in outgoing:
            concerned |= bound.subject.members
            self._retire(bound)
        if kept:
            self._of_policy[policy.key] = kept
        return concerned

    def release(self) -> None:
        """Unbind what was out of force at the last call and still is."""
        for bound in self._idle:
            for selection in bound.selections:
                self._index.disuse(selection)
        self._idle, self._retiring = self._retiring, []

    def _bind(self, policy: Policy, spec: Spec) -> BoundSpec:
        use = self._index.use
        peers = tuple(
            (rule, None if rule.peers is None else tuple(use(peer) for peer in rule.peers)) for rule in spec.rules
        )
        return BoundSpec(policy.key, policy.cookie, spec, use(spec.subject), peers)

    def _retire(self, bound: BoundSpec) -> None:
        self._of_subject[bound.subject].remove(bound)
        if not self._of_subject[bound.subject]:
            del self._of_subject[bound.subject]
        self._retiring.append(bound)


def _take_out(bounds: list[BoundSpec], policy: str, spec: Spec) -> BoundSpec | None:
    found = next((bound for bound in bounds if bound.policy == policy and bound.spec == spec), None)
    if found is not None:
        bounds.remove(found)
    return found
