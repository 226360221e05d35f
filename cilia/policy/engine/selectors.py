"""Selectors and the identities that they select, found without trying all pairs.

A selector is filed under an *anchor*: one label that whatever it selects must carry. Identities are
filed under each of their labels. So a new identity looks up few selectors, and a new selector few
identities.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Final, TypeVar

from cilia.contracts.ids import Identity
from cilia.contracts.labels import CLUSTER, NAMED_PORT, NAMESPACE, Labels
from cilia.policy.engine.rules import (
    ANY_SOURCE,
    CIDR,
    Block,
    LabelView,
    Operator,
    Prefix,
    Requirement,
    Selector,
    parse_prefix,
)

COMMON_KEYS: Final = frozenset({NAMESPACE, CLUSTER})
T = TypeVar("T")
Anchor = tuple[str, ...]
"""(source, key) or (source, key, value)."""


@dataclass(frozen=True, slots=True)
class ContainerPort:
    """A port that the pods of an identity name."""

    name: str
    protocol: int
    port: int


@dataclass(frozen=True, eq=False, slots=True)
class Peer:
    """An identity as selectors see it.

    Attributes:
        labels: With the labels of all covering prefixes if the identity stands for a prefix.
        prefixes: What the identity stands for outside of the cluster, or the addresses of its pods.
    """

    identity: Identity
    labels: LabelView
    prefixes: tuple[Prefix, ...] = ()
    ports: frozenset[ContainerPort] = frozenset()


NOTHING_NAMED: Final[Mapping[Prefix, LabelView]] = {}


def view_peer(
    identity: Identity,
    labels: Labels,
    *,
    addresses: Iterable[Prefix] = (),
    ports: frozenset[ContainerPort] = frozenset(),
    named: Mapping[Prefix, LabelView] = NOTHING_NAMED,
) -> Peer:
    """Prepare an identity for matching.

    Args:
        named: What groups of prefixes say of theirs; it holds for all that lies within.
    """
    view: LabelView = {}
    prefixes = list(addresses)
    for label in sorted(labels):
        if label.source == NAMED_PORT:
            continue
        view[label.source, label.key] = label.value
        view.setdefault((ANY_SOURCE, label.key), label.value)
        if label.source == CIDR:
            prefixes.append(parse_prefix(label.key))
            view.update(_covering(prefixes[-1], named))
    return Peer(identity, view, tuple(prefixes), ports)


def _covering(prefix: Prefix, named: Mapping[Prefix, LabelView]) -> LabelView:
    view: LabelView = {}
    for length in range(prefix.prefixlen + 1):
        outer = prefix.supernet(new_prefix=length)
        view[CIDR, str(outer)] = ""
        view.update(named.get(outer, {}))
    return view


def selects(selector: Selector, peer: Peer) -> bool:
    """Tell whether a selector selects a peer.

    Of pods that share an identity either all have their addresses of the block's family in it or
    none counts: a peer is never let in for the address of another.
    """
    block = selector.block
    if block is not None and not _holds_all(block, peer.prefixes, at_least_one=True):
        return False
    return all(requirement.admits(peer.labels) for requirement in selector.requirements)


def _holds_all(block: Block, prefixes: Iterable[Prefix], *, at_least_one: bool) -> bool:
    """Tell whether a block holds all prefixes of its family."""
    found = not at_least_one
    for prefix in prefixes:
        if prefix.version == block.cidr.version:
            if not block.holds(prefix):
                return False
            found = True
    return found


def _anchors(selector: Selector) -> tuple[Anchor, ...]:
    """Return the labels of which every selected peer has at least one; () if there is none to rely
    on.
    """
    positive = [item for item in selector.requirements if item.operator in (Operator.IN, Operator.EXISTS)]
    if not positive:
        return ()
    best = min(positive, key=_breadth)
    if best.operator is Operator.EXISTS:
        return ((best.source, best.key),)
    return tuple((best.source, best.key, value) for value in best.values)


def _breadth(item: Requirement) -> tuple[bool, bool, int]:
    return (item.operator is Operator.EXISTS and item.source != CIDR, item.key in COMMON_KEYS, len(item.values))


@dataclass(eq=False, slots=True)
class Selection:
    """A selector in use and whom it selects; one object for all its users, compared by identity."""

    selector: Selector
    members: set[Identity]
    users: int = 0


NO_SELECTIONS: Final[frozenset[Selection]] = frozenset()


class SelectorIndex:
    """Selectors in use and the identities that they select; kept exact under every change.

    The sets that it hands out are its own, and not to be changed by others.
    """

    def __init__(self) -> None:
        self._selections: dict[Selector, Selection] = {}
        self._selecting: dict[Identity, set[Selection]] = {}
        self._peers: dict[Identity, Peer] = {}
        self._by_anchor: defaultdict[Anchor, set[Selection]] = defaultdict(set)
        self._unanchored: set[Selection] = set()
        self._of_blocks: set[Selection] = set()
        self._by_label: defaultdict[Anchor, set[Identity]] = defaultdict(set)

    def selecting(self, identity: Identity) -> Set[Selection]:
        """Return the selectors in use that select an identity."""
        return self._selecting.get(identity, NO_SELECTIONS)

    def peer(self, identity: Identity) -> Peer | None:
        """Return what is known of an identity."""
        return self._peers.get(identity)

    def use(self, selector: Selector) -> Selection:
        """Count one more user of a selector."""
        selection = self._selections.get(selector)
        if selection is None:
            selection = self._selections[selector] = Selection(selector, set())
            for identity in self._file(selection):
                if selects(selector, self._peers[identity]):
                    selection.members.add(identity)
                    self._selecting[identity].add(selection)
        selection.users += 1
        return selection

    def _file(self, selection: Selection) -> Iterable[Identity]:
        if selection.selector.block is not None:
            self._of_blocks.add(selection)
        anchors = _anchors(selection.selector)
        if not anchors:
            self._unanchored.add(selection)
            return self._peers
        for anchor in anchors:
            self._by_anchor[anchor].add(selection)
        return set().union(*(self._by_label[anchor] for anchor in anchors if anchor in self._by_label))

    def disuse(self, selection: Selection) -> None:
        """Count one user less; the last one takes the selector away, and leaves the selection's
        members as they are.
        """
        selection.users -= 1
        if selection.users:
            return
        del self._selections[selection.selector]
        for identity in selection.members:
            self._selecting[identity].discard(selection)
        self._unanchored.discard(selection)
        self._of_blocks.discard(selection)
        for anchor in _anchors(selection.selector):
            _discard(self._by_anchor, anchor, selection)

    def put(self, peer: Peer) -> None:
        """Add an identity, or take new facts about it; only selectors filed under its labels are
        asked.
        """
        self.remove(peer.identity)
        self._peers[peer.identity] = peer
        labels = _filed_under(peer.labels)
        for label in labels:
            self._by_label[label].add(peer.identity)
        candidates = self._unanchored.union(*(self._by_anchor[label] for label in labels if label in self._by_anchor))
        selecting = {selection for selection in candidates if selects(selection.selector, peer)}
        self._selecting[peer.identity] = selecting
        for selection in selecting:
            selection.members.add(peer.identity)

    def readdress(self, peer: Peer, added: Collection[Prefix], gone: Collection[Prefix]) -> set[Selection]:
        """Take other addresses of an identity that is the same otherwise; only selectors of blocks
        are asked.

        Args:
            added: Addresses that it had not.
            gone: Addresses that it has no more.

        Returns:
            The selectors that select it no longer, or now.
        """
        self._peers[peer.identity] = peer
        selecting, changed = self._selecting[peer.identity], set()
        for selection in self._of_blocks:
            before = selection in selecting
            if _selects_readdressed(selection.selector, peer, added, gone, before=before) is not before:
                changed.add(selection)
        selecting ^= changed
        for selection in changed:
            selection.members ^= {peer.identity}
        return changed

    def remove(self, identity: Identity) -> None:
        """Forget an identity; unknown ones are no error."""
        peer = self._peers.pop(identity, None)
        if peer is None:
            return
        for selection in self._selecting.pop(identity):
            selection.members.discard(identity)
        for label in _filed_under(peer.labels):
            _discard(self._by_label, label, identity)


def _selects_readdressed(
    selector: Selector, peer: Peer, added: Collection[Prefix], gone: Collection[Prefix], *, before: bool
) -> bool:
    """Tell whether a selector of a block selects a peer, looking through all of its addresses only
    where those that came and went don't tell.
    """
    block = selector.block
    assert block is not None
    if not before:
        return selects(selector, peer)
    if not _holds_all(block, added, at_least_one=False):
        return False
    return not gone or any(prefix.version == block.cidr.version for prefix in peer.prefixes)


def _discard(index: dict[Anchor, set[T]], anchor: Anchor, item: T) -> None:
    index[anchor].discard(item)
    if not index[anchor]:
        del index[anchor]


def _filed_under(view: LabelView) -> list[Anchor]:
    return [anchor for (source, key), value in view.items() for anchor in ((source, key), (source, key, value))]
