"""Policy as the model has it: a search through all entries."""

from collections.abc import Mapping
from typing import NamedTuple

from cilia.abi.enums import DropReason, PolicyPrecedence
from cilia.abi.structs import PolicyEntry, PolicyKey

Entries = Mapping[PolicyKey, PolicyEntry]


class Version(NamedTuple):
    """A version of a slot's policy; revision 0: none is in force."""

    revision: int
    entry_set: int
    audit: bool
    shapes: int
    named_only: int
    """Bit by direction: there are no entries for any peer; it saves lookups, and changes no
    verdict.
    """


class Query(NamedTuple):
    """A question to the policy of a slot about a peer."""

    slot: int
    identity: int
    direction: int
    protocol: int
    port: int


def consult(entries: Entries, version: Version, query: Query) -> tuple[int, int, bool]:
    """Return the reason to drop or 0, the cookie of what decided, and whether it is audited."""
    entry = choose(entries, version, query)
    reason = DropReason.POLICY_DENIED if entry is None else DropReason.DENIED_BY_RULE if entry.deny else 0
    audited = bool(reason) and (version.audit or (entry is not None and bool(entry.audit)))
    return 0 if audited else reason, entry.cookie if entry else 0, audited


def choose(entries: Entries, version: Version, query: Query) -> PolicyEntry | None:
    """Return the longest match of the peer or of any: by precedence, by length, then the peer's."""
    slot, identity, direction, protocol, port = query
    best: dict[bool, tuple[int, PolicyEntry]] = {}
    member = entries.get(PolicyKey(slot, version.entry_set, direction, identity, 0, 0, 0))
    if member and member.is_member and version.shapes & 1:
        identity = member.cookie
    for key, entry in entries.items():
        fits = (key.slot, key.set, key.direction) == (slot, version.entry_set, direction)
        if not fits or key.identity not in (0, identity) or not version.shapes >> key.shape & 1:
            continue
        free = 17 - key.shape
        if key.shape and (key.protocol != protocol or key.port != port >> free << free):
            continue
        own = key.identity != 0
        if own not in best or best[own][0] < key.shape:
            best[own] = key.shape, entry
    if len(best) < 2:
        return next((entry for _, entry in best.values()), None)
    if best[True][1].precedence == PolicyPrecedence.DENY:
        return best[True][1]
    return max(best.items(), key=lambda item: (item[1][1].precedence, item[1][0], item[0]))[1][1]
