"""Entries of a policy map: which of them are needed, and what the data plane makes of them.

An entry says allow or deny for a :class:`Match`. Matches nest: two of them are disjoint, or one is
*broader*. The data plane takes the longest match of the peer's own entries and the longest of those
for any peer, and of the two the one of higher precedence. For that to mean "deny wins" an entry
must not stand below a broader one of higher precedence; and below one of equal precedence it is
redundant (the peer's pkg/policy/mapstate.go).

What only an audited policy denies is let through and reported. Its denials stand above allows and
below those of the other policies, and only where something is allowed (``limit_audited_denials``).
Its isolation is an entry for everything, below all others.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import chain, product
from typing import Final, NamedTuple

from cilia.abi.enums import PolicyPrecedence
from cilia.contracts.ids import Identity
from cilia.contracts.tables import PolicyEntry
from cilia.policy.engine.port_ranges import PORT_BITS, split_range
from cilia.policy.engine.rules import NamedPort, PortRange, Rule

ANY_PEER: Final = Identity(0)
DENY: Final = PolicyPrecedence.DENY.value
AUDITED_DENY: Final = PolicyPrecedence.AUDITED_DENY.value
ALLOW: Final = PolicyPrecedence.ALLOW.value
AUDITED_DEFAULT: Final = PolicyPrecedence.AUDITED_DEFAULT.value
"""Precedence words: level 0 in bits 31..8; in the low byte 255 is deny, 254 an audited one, 1 a
plain allow, 0 an audited default deny, between them room for redirections (the peer's
pkg/policy/types/entry.go).
"""
_AUDITED: Final = (AUDITED_DENY, AUDITED_DEFAULT)


class Match(NamedTuple):
    """Packets of one direction by protocol and port; without the peer."""

    egress: bool
    protocol: int
    port: int
    bits: int


class RuleEntry(NamedTuple):
    """Entry that one rule asks for.

    Of two for the same match the greater precedence wins, then the lesser key of their policies.
    """

    match: Match
    precedence: int
    policy: str
    cookie: int


Entries = dict[Match, PolicyEntry]
NameLookup = Callable[[NamedPort], Collection[int]]
"""Gives the numbers that a name stands for: none or one or, of different pods, several."""

JOIN_FROM: Final = 8
"""Fewer entries are written as they are."""

NO_ENTRIES: Final[Entries] = {}


def expand_rule(
    rule: Rule, policy: str, cookie: int, lookup: NameLookup, *, audit: bool = False
) -> Iterator[RuleEntry]:
    """Yield the entries of a rule for each of its peers; ``audit``: its policy is audited."""
    precedence = ALLOW
    if rule.deny:
        precedence = AUDITED_DENY if audit else DENY
    for protocol, port, bits in _expand(rule, lookup):
        yield RuleEntry(Match(rule.egress, protocol, port, bits), precedence, policy, cookie)


def _expand(rule: Rule, lookup: NameLookup) -> Iterator[tuple[int, int, int]]:
    if rule.ports is None:
        yield 0, 0, 0
        return
    for port in rule.ports:
        if isinstance(port, PortRange):
            yield from ((port.protocol, first, bits) for first, bits in split_range(port.first, port.last))
            continue
        numbers = lookup(port)
        if rule.deny or len(numbers) == 1:  # an ambiguous name opens nothing
            yield from ((port.protocol, number, PORT_BITS) for number in numbers)


def limit_audited_denials(own: Collection[RuleEntry], any_peer: Collection[RuleEntry] = ()) -> Iterator[RuleEntry]:
    """Limit the audited denials among one peer's rule entries to what is allowed.

    Where nothing allows, the denial of the other policies stands, which an audited entry would
    lift.

    Args:
        own: The peer's rule entries.
        any_peer: Those for any peer, which speak about it, too.
    """
    own_denials, any_peer_denials = (
        [each for each in some if each.precedence == AUDITED_DENY] for some in (own, any_peer)
    )
    own_allows, any_peer_allows = ([each for each in some if each.precedence <= ALLOW] for some in (own, any_peer))
    yield from (rule_entry for rule_entry in own if rule_entry.precedence != AUDITED_DENY)
    pairs = chain(
        product(own_denials, own_allows), product(own_denials, any_peer_allows), product(any_peer_denials, own_allows)
    )
    for denial, allow in pairs:
        match = intersect(denial.match, allow.match)
        if match is not None:
            yield denial._replace(match=match)


def intersect(one: Match, other: Match) -> Match | None:
    """Return the match of what both match; None if that is nothing."""
    if one.egress != other.egress:
        return None
    if not one.protocol or not other.protocol:
        return other if not one.protocol else one
    broad, narrow = sorted((one, other), key=lambda match: match.bits)
    if one.protocol != other.protocol or (broad.port ^ narrow.port) >> (PORT_BITS - broad.bits):
        return None
    return narrow


def merge_rule_entries(
    rule_entries: Iterable[RuleEntry], below: Mapping[Match, PolicyEntry] = NO_ENTRIES, *, audited: bool = False
) -> Entries:
    """Return the entries that one peer needs.

    Args:
        rule_entries: What the policies want, in any order.
        below: Entries for any peer, already merged; what they decide as well needs no entry of the
            peer's own.
        audited: Every denial is let through and reported.
    """
    best: dict[Match, RuleEntry] = {}
    for rule_entry in rule_entries:
        other = best.get(rule_entry.match)
        if other is None or (-rule_entry.precedence, rule_entry.policy) < (-other.precedence, other.policy):
            best[rule_entry.match] = rule_entry
    shapes = {(match.protocol, match.bits) for state in (best, below) for match in state}
    entries = {
        match: _entry(rule_entry, audited=audited)
        for match, rule_entry in best.items()
        if not _is_covered(rule_entry, best, below, shapes)
    }
    return join_ports(entries) if len(entries) >= JOIN_FROM else entries


def join_ports(entries: Entries) -> Entries:
    """Return entries with neighbouring ports joined to prefixes where that halves them; they decide
    the same.

    Two halves of a prefix that hold the same entry are one. What stood at the prefix itself is
    gone: it was lower, and both halves overruled it. Each further length of prefix is one more
    probe for the first packet of a flow.
    """
    joined = dict(entries)
    for bits in range(PORT_BITS, 0, -1):
        lower = [match for match in joined if match.bits == bits and not match.port >> (PORT_BITS - bits) & 1]
        for match in lower:
            upper = match._replace(port=match.port | 1 << (PORT_BITS - bits))
            if joined.get(upper) == joined[match]:
                joined[match._replace(bits=bits - 1)] = joined.pop(match)
                del joined[upper]
    return joined if 2 * len(joined) <= len(entries) else entries


def _entry(rule_entry: RuleEntry, *, audited: bool) -> PolicyEntry:
    is_audited = rule_entry.precedence in _AUDITED
    deny = is_audited or rule_entry.precedence == DENY
    return PolicyEntry(deny, rule_entry.precedence, rule_entry.cookie, is_audited or (audited and deny))


def _is_covered(
    rule_entry: RuleEntry,
    own: Mapping[Match, RuleEntry],
    below: Mapping[Match, PolicyEntry],
    shapes: Collection[tuple[int, int]],
) -> bool:
    same = below.get(rule_entry.match)
    if same is not None and same.precedence >= rule_entry.precedence:
        return True
    if len(shapes) == 1:  # as a rule: nothing is broader than anything
        return False
    for match in broader(rule_entry.match, shapes):
        above: RuleEntry | PolicyEntry | None
        for above in (own.get(match), below.get(match)):
            if above is not None and above.precedence >= rule_entry.precedence:
                return True
    return False


def broader(match: Match, shapes: Collection[tuple[int, int]] | None = None) -> Iterator[Match]:
    """Yield the strictly broader matches, from narrow to broad; at most 17.

    Args:
        shapes: (protocol, bits) of those that are of interest; None: all.
    """
    egress, protocol, port, bits = match
    if not protocol:
        return
    for shorter in range(bits - 1, -1, -1):
        if shapes is None or (protocol, shorter) in shapes:
            yield Match(egress, protocol, port & ~(0xFFFF >> shorter), shorter)
    yield Match(egress, 0, 0, 0)
