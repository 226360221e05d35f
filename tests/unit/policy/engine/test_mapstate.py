"""Entries of the map: ranges as prefixes, redundancy, precedence and the lookup."""

import zlib

import pytest

from cilia.contracts.ids import Identity
from cilia.contracts.tables import PolicyEntry, PolicyKey
from cilia.policy.engine.mapstate import (
    ALLOW,
    DENY,
    Entries,
    Match,
    RuleEntry,
    broader,
    expand_rule,
    merge_rule_entries,
)
from cilia.policy.engine.port_ranges import split_range
from cilia.policy.engine.rules import PortRange, Rule
from cilia.policy.engine.verdict import decide

WEB, DB = Identity(256), Identity(257)
TCP_80 = Match(False, 6, 80, 16)
TCP = Match(False, 6, 0, 0)
ALL = Match(False, 0, 0, 0)


@pytest.mark.parametrize(
    ("first", "last", "count"),
    [
        (1, 65_534, 30),
        (1, 65_535, 16),
        (1024, 65_535, 6),
        (30_000, 32_767, 5),
        (80, 90, 3),
        (0, 65_535, 1),
        (80, 80, 1),
    ],
)
def test_a_range_takes_as_few_prefixes_as_the_peers(first: int, last: int, count: int) -> None:
    blocks = split_range(first, last)
    assert len(blocks) == count
    assert [port for start, bits in blocks for port in range(start, start + (1 << 16 - bits))] == list(
        range(first, last + 1)
    )


def test_a_range_is_written_as_the_peer_writes_it() -> None:
    assert split_range(80, 90) == ((80, 13), (88, 15), (90, 16))


def test_the_broader_matches_of_a_port_are_its_prefixes_and_everything() -> None:
    found = list(broader(TCP_80))
    assert len(found) == 17
    assert found[0] == Match(False, 6, 80, 15)
    assert found[-2:] == [TCP, ALL]


def rule_entry(match: Match, precedence: int = ALLOW, policy: str = "p", cookie: int = 1) -> RuleEntry:
    """Return a rule_entry of the policy ``p``."""
    return RuleEntry(match, precedence, policy, cookie)


def verdicts(entries: Entries) -> dict[Match, bool]:
    """Return match -> allowed."""
    return {match: not entry.deny for match, entry in entries.items()}


def test_an_allow_below_a_broader_deny_is_left_out() -> None:
    assert verdicts(merge_rule_entries([rule_entry(TCP_80), rule_entry(TCP, DENY)])) == {TCP: False}


def test_a_deny_below_a_broader_allow_stays() -> None:
    assert verdicts(merge_rule_entries([rule_entry(TCP_80, DENY), rule_entry(TCP)])) == {TCP: True, TCP_80: False}


def test_an_allow_below_a_broader_allow_is_redundant() -> None:
    assert verdicts(merge_rule_entries([rule_entry(TCP_80), rule_entry(ALL)])) == {ALL: True}


def test_a_peer_needs_no_entry_for_what_is_so_for_any_peer() -> None:
    wild = merge_rule_entries([rule_entry(TCP)])
    assert merge_rule_entries([rule_entry(TCP), rule_entry(TCP_80)], wild) == {}
    assert verdicts(merge_rule_entries([rule_entry(TCP_80, DENY)], wild)) == {TCP_80: False}


def test_deny_wins_on_the_same_key_and_then_the_lesser_policy_is_named() -> None:
    rule_entries = [rule_entry(TCP, ALLOW, "a", 1), rule_entry(TCP, DENY, "c", 3), rule_entry(TCP, DENY, "b", 2)]
    assert merge_rule_entries(rule_entries) == {TCP: PolicyEntry(deny=True, precedence=DENY, cookie=2)}
    assert merge_rule_entries(reversed(rule_entries)) == merge_rule_entries(rule_entries)


def entry(*, deny: bool = False, cookie: int = 0) -> PolicyEntry:
    """Return an entry at the usual precedence."""
    return PolicyEntry(deny=deny, precedence=DENY if deny else ALLOW, cookie=cookie)


def test_nothing_that_matches_is_a_default_deny() -> None:
    verdict = decide({}, WEB, egress=False, protocol=6, port=80)
    assert (verdict.allowed, verdict.entry, verdict.cookie) == (False, None, 0)


def test_a_deny_for_any_peer_beats_a_longer_allow_of_the_peer() -> None:
    state = {PolicyKey(False, WEB, 6, 80, 16): entry(), PolicyKey(False, Identity(0), 0, 0, 0): entry(deny=True)}
    assert not decide(state, WEB, egress=False, protocol=6, port=80).allowed


def test_of_equal_precedence_the_longer_match_is_named_and_then_the_peers_own() -> None:
    state = {
        PolicyKey(False, WEB, 6, 80, 12): entry(cookie=1),
        PolicyKey(False, Identity(0), 6, 80, 16): entry(cookie=2),
        PolicyKey(False, DB, 6, 80, 16): entry(cookie=3),
    }
    assert decide(state, WEB, egress=False, protocol=6, port=80).cookie == 2
    assert decide(state, DB, egress=False, protocol=6, port=80).cookie == 3
    assert not decide(state, WEB, egress=True, protocol=6, port=80).allowed


def test_a_port_matches_by_its_leading_bits() -> None:
    state = {PolicyKey(False, WEB, 6, 80, 13): entry()}
    assert [port for port in range(70, 100) if decide(state, WEB, egress=False, protocol=6, port=port).allowed] == list(
        range(80, 88)
    )


def ports_entry(first: int, last: int, *, deny: bool = False, policy: str = "a", protocol: int = 6) -> list[RuleEntry]:
    rule = Rule(False, deny, None, tuple(PortRange(protocol, port, port) for port in range(first, last + 1)))
    return list(expand_rule(rule, policy, zlib.crc32(policy.encode()), lambda _: ()))


def test_single_ports_that_are_neighbours_are_joined_to_prefixes() -> None:
    entries = merge_rule_entries(ports_entry(8000, 8063))
    assert [(match.port, match.bits) for match in entries] == [(8000, 10)]


def test_every_port_of_a_protocol_one_by_one_is_the_protocol() -> None:
    assert [*merge_rule_entries(ports_entry(0, 65_535))] == [Match(False, 6, 0, 0)]


def test_ports_of_different_policies_are_not_joined() -> None:
    rule_entries = [
        rule_entry for port in range(8000, 8064) for rule_entry in ports_entry(port, port, policy="ab"[port % 2])
    ]
    assert len(merge_rule_entries(rule_entries)) == 64


def test_joined_denials_take_the_place_of_what_they_overrule() -> None:
    rule_entries = [*ports_entry(8000, 8063, deny=True), RuleEntry(Match(False, 6, 8000, 10), ALLOW, "b", 2)]
    ((match, entry),) = merge_rule_entries(rule_entries).items()
    assert (match.port, match.bits, entry.deny) == (8000, 10, True)


def test_few_or_scattered_ports_stay_as_they_are() -> None:
    """Each length of prefix costs the first packet of a flow a probe."""
    assert len(merge_rule_entries(ports_entry(8000, 8003))) == 4
    scattered = [rule_entry for port in range(8000, 8600, 3) for rule_entry in ports_entry(port, port)]
    assert len(merge_rule_entries(scattered)) == 200
