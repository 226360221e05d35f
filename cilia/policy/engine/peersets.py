"""Sets of peers that share entries, which keep a subject's policy map small.

10,000 peers with 200 ports each would be two million entries; as members of one set they are
10,200, and one more peer is one entry. The number of a set is a hash of its entries, so that
whoever resolves the same policy finds the same number. Where the numbers of two sets in use are
equal, their members keep entries of their own.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from cilia.contracts.tables import FIRST_PEER_SET, PolicyEntry
from cilia.policy.engine.mapstate import NO_ENTRIES, Entries, Match

HASH_BITS = 31


class DirectionEntries(NamedTuple):
    """A peer's entries in one direction; ``number`` 0: too few to be shared."""

    number: int
    content: bytes
    entries: Entries


@dataclass(frozen=True, slots=True)
class PeerEntries:
    """A peer's entries, and what it holds of them as a member.

    Attributes:
        entries: All of them.
        parts: By direction.
        rows: What stands under the peer itself, while no two numbers are equal.
    """

    entries: Entries
    parts: tuple[DirectionEntries, ...]
    rows: Entries


NOTHING: Final = PeerEntries(NO_ENTRIES, (), NO_ENTRIES)


def split_by_direction(entries: Entries) -> PeerEntries:
    """Split a peer's entries into what its sets hold and what it holds itself."""
    if not entries:
        return NOTHING
    parts = tuple(part for egress in (False, True) for part in _one_direction(entries, egress))
    rows = {match: entry for part in parts for match, entry in _rows(part)}
    return PeerEntries(entries, parts, rows)


def _one_direction(entries: Entries, egress: bool) -> Iterator[DirectionEntries]:
    own = {match: entry for match, entry in entries.items() if match.egress is egress}
    if len(own) < 2:
        if own:
            yield DirectionEntries(0, b"", own)
        return
    content = msgspec.msgpack.encode(sorted(own.items(), key=lambda item: item[0]))
    digest = int.from_bytes(blake2b(content, digest_size=4).digest(), "big")
    yield DirectionEntries(FIRST_PEER_SET | digest & (1 << HASH_BITS) - 1, content, own)


def _rows(part: DirectionEntries) -> Iterator[tuple[Match, PolicyEntry]]:
    if not part.number:
        yield from part.entries.items()
        return
    egress = next(iter(part.entries)).egress
    yield Match(egress, 0, 0, 0), PolicyEntry(deny=False, precedence=0, peer_set=part.number)


@dataclass(slots=True)
class PeerSets:
    """The sets in use for one group of subjects."""

    _contents: defaultdict[int, dict[bytes, Entries]] = field(default_factory=lambda: defaultdict(dict))
    _members: Counter[tuple[int, bytes]] = field(default_factory=Counter)

    def exchange(self, old: PeerEntries, new: PeerEntries) -> dict[int, bool]:
        """Count a member of ``new`` in place of one of ``old``.

        Returns:
            The numbers of the sets that this may change, each with whether it was clear before.
        """
        was_clear: dict[int, bool] = {}
        for number, content, entries in new.parts:
            if number:
                if not self._members[number, content]:
                    was_clear.setdefault(number, self.is_clear(number))
                    self._contents[number][content] = entries
                self._members[number, content] += 1
        for number, content, _ in old.parts:
            if number:
                self._members[number, content] -= 1
                if not self._members[number, content]:
                    was_clear.setdefault(number, self.is_clear(number))
                    del self._members[number, content], self._contents[number][content]
        return was_clear

    def is_clear(self, number: int) -> bool:
        """Tell whether a number stands for one set only."""
        return len(self._contents.get(number, ())) < 2

    def entries(self, number: int) -> Entries:
        """Return the entries of a set; none if nobody is in it, or its number stands for two."""
        contents = self._contents.get(number, {})
        if not contents:
            self._contents.pop(number, None)
        return next(iter(contents.values())) if len(contents) == 1 else NO_ENTRIES

    def rows(self, peer: PeerEntries) -> Entries:
        """Return what stands under a peer itself."""
        if all(self.is_clear(part.number) for part in peer.parts if part.number):
            return peer.rows
        rows: Entries = {}
        for part in peer.parts:
            rows.update(_rows(part) if self.is_clear(part.number) else part.entries)
        return rows
