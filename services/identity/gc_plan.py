"""Plan of a round of garbage collection, without I/O: which identities to mark and to delete.

An identity that nobody uses is deleted in three rounds, and no use that begins meanwhile can be
lost::

    round n      put unused/<n>                 (if the identity is still the one that was seen)
                 allocate or publish of it: delete unused/<n>, in the transaction of the use
    round n+1    the mark is seen
    round n+2    delete id, value and mark      (if the mark is still that one, and no ref exists)

A use that committed before the mark is in the cache once that has seen the mark, which is newer. A
use that commits after the mark removes it, and then the deletion's comparison fails. So neither
references of endpoints nor a touch of the master key are needed to make the two exclude each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cilia.contracts.ids import Identity, Revision


@dataclass(frozen=True, slots=True)
class Mark:
    """Put the mark of ``identity`` if its master key still has ``master_revision``."""

    identity: Identity
    master_revision: Revision


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete ``identity`` if its mark still has ``mark_revision`` and no reference exists."""

    identity: Identity
    mark_revision: Revision
    canonical: str


@dataclass(frozen=True, slots=True)
class Unmark:
    """Remove a mark that has no identity."""

    identity: Identity
    mark_revision: Revision


Step = Mark | Delete | Unmark


def plan_round(
    *,
    unused: Mapping[Identity, Revision],
    marks: Mapping[Identity, Revision],
    marks_before: Mapping[Identity, Revision],
    known: Mapping[Identity, str],
) -> list[Step]:
    """Plan one round.

    Args:
        unused: Identities without a user -> revision of their master key.
        marks: The marks there are -> their revision.
        marks_before: The marks that the previous round saw. A new leader has none, and so only
            begins to count.
        known: All identities -> their canonical labels.
    """
    steps: list[Step] = [
        Delete(identity, mark, known[identity])
        for identity, mark in marks.items()
        if identity in unused and marks_before.get(identity) == mark
    ]
    steps += [Mark(identity, master) for identity, master in unused.items() if identity not in marks]
    steps += [Unmark(identity, mark) for identity, mark in marks.items() if identity not in known]
    return steps
