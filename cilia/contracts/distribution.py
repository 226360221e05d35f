"""Messages that distribute tables (:mod:`cilia.contracts.tables`): deltas, beacons and snapshots.

``cilia.table`` distributes every table in the same way: subscribe, buffer, ask any replica for a
snapshot, apply what is newer. All of these are msgpack arrays, as rows are.
"""

from typing import Generic, TypeVar

from cilia.contracts.tables import Row

K = TypeVar("K")
V = TypeVar("V")


class Delta(Row, Generic[K, V], frozen=True):
    """The changes of one shard in (``previous``, ``sequence``].

    Apply it if ``epoch`` is yours and ``previous <= yours < sequence``; ignore it if ``sequence <=
    yours``; otherwise something is missing: ask for a snapshot. Rows carry the newest state, so
    applying an overlap twice does no harm.
    """

    epoch: int
    """Name of one history. A restored kvstore starts another, with a greater number; of two the
    greater is the truth.
    """
    previous: int
    sequence: int
    upserts: tuple[tuple[K, V], ...] = ()
    removes: tuple[K, ...] = ()
    part: int = 0
    parts: int = 1
    """Number of parts: a delta too big for one message comes in parts 0..parts-1, in order, that
    are applied together.
    """
    batch: int = 0
    """Number that tells the parts of one delta from those of another leader's."""
    together: bool = False
    """Other shards changed in the same act, as policies do: gather them until the beacon that
    follows at once.
    """


class DeltaBatch(Row, Generic[K, V], frozen=True):
    """Deltas of all changed shards that one subscriber is known to hold; each stands by itself."""

    deltas: tuple[tuple[str, Delta[K, V]], ...]
    """(shard, delta)."""


class Beacon(Row, frozen=True):
    """Head of a table, sent each second and after changes, so that a lost last delta is noticed.

    A shard changed in (``since``, ``sequence``] exactly if ``heads`` names it. So whoever holds a
    shard at or after ``since``, and after its head, holds it at ``sequence``; everyone else has
    something to ask for.
    """

    epoch: int
    since: int
    sequence: int
    """Position up to which the publisher has seen the history."""
    heads: dict[str, int] = {}
    """Shard -> sequence of its newest change."""


class SnapshotRequest(Row, frozen=True):
    """Request for the rows of a shard, or of all.

    With ``epoch`` and ``since``, for the changes after ``since`` if still at hand.
    """

    epoch: int = 0
    since: int = 0
    at_least: int = 0
    """Sequence that the replica must have seen first; it waits for it, bounded."""


class SnapshotChunk(Row, Generic[K, V], frozen=True):
    """Part of the answer to a :class:`SnapshotRequest`; all parts are of the same ``sequence``, and
    arrive in order.

    An answer for all shards mixes their rows: the key tells the shard.
    """

    epoch: int
    sequence: int
    since: int
    """Start of the changes in (``since``, ``sequence``]; 0: the parts together are the whole."""
    part: int
    """Number of this part from 0; a missing one voids the answer."""
    last: bool
    upserts: tuple[tuple[K, V], ...] = ()
    removes: tuple[K, ...] = ()
