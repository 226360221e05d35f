"""Compression of maps changes no verdict: against a list of rule entries, searched whole."""

from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cilia.contracts.ids import Identity
from cilia.contracts.tables import PolicyEntry, PolicyKey
from cilia.policy.engine import mapstate
from cilia.policy.engine.mapstate import ALLOW, ANY_PEER, DENY, Entries, Match, RuleEntry, merge_rule_entries
from cilia.policy.engine.peersets import split_by_direction
from cilia.policy.engine.port_ranges import PORT_BITS
from cilia.policy.engine.verdict import StateLookup
from tests.property.examples import examples

WEB, DB = Identity(256), Identity(257)
PORTS = range(64)


def matches(rule_entry: RuleEntry, protocol: int, port: int) -> bool:
    match = rule_entry.match
    if match.protocol == 0:
        return True
    return match.protocol == protocol and (port ^ match.port) >> (PORT_BITS - match.bits) == 0


def searched(rule_entries: Iterable[RuleEntry], protocol: int, port: int) -> bool:
    """Tell whether a packet is allowed: by a rule_entry, and denied by none."""
    speaking = [rule_entry for rule_entry in rule_entries if matches(rule_entry, protocol, port)]
    return bool(speaking) and all(rule_entry.precedence != DENY for rule_entry in speaking)


@st.composite
def rule_entry(draw: st.DrawFn) -> list[RuleEntry]:
    """A rule of a run of neighbouring ports, one by one, of a prefix, of a protocol, or of
    everything.
    """
    protocol = draw(st.sampled_from([6, 6, 6, 17]))
    policy = draw(st.sampled_from("ab"))
    precedence = draw(st.sampled_from([ALLOW, ALLOW, DENY]))
    first = draw(st.sampled_from(PORTS))
    kind = draw(st.sampled_from(["run", "run", "run", "prefix", "protocol", "all"]))
    if kind == "run":
        last = min(first + draw(st.integers(0, 40)), PORTS[-1])
        found = [Match(False, protocol, port, PORT_BITS) for port in range(first, last + 1)]
    elif kind == "prefix":
        bits = draw(st.integers(10, 15))
        found = [Match(False, protocol, first & ~(0xFFFF >> bits), bits)]
    else:
        found = [Match(False, protocol if kind == "protocol" else 0, 0, 0)]
    return [RuleEntry(match, precedence, policy, ord(policy)) for match in found]


rule_entries = st.lists(rule_entry(), max_size=5).map(lambda found: [item for some in found for item in some])


def rows(peer: Identity, entries: Entries) -> dict[PolicyKey, PolicyEntry]:
    return {PolicyKey(m.egress, peer, m.protocol, m.port, m.bits): entry for m, entry in entries.items()}


@pytest.fixture(params=[1, 8], ids=["always", "from 8 on"])
def join_from(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapstate, "JOIN_FROM", request.param)


@settings(max_examples=examples(80), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(own=rule_entries, any_peer=rule_entries)
def test_no_verdict_changes(join_from: None, own: list[RuleEntry], any_peer: list[RuleEntry]) -> None:
    below = merge_rule_entries(any_peer)
    shared = split_by_direction(merge_rule_entries(own, below))
    state = rows(ANY_PEER, below) | rows(WEB, shared.rows)
    for part in shared.parts:
        if part.number:
            state |= rows(Identity(part.number), part.entries)
    lookup = StateLookup(state)
    for protocol in (6, 17):
        for port in (*PORTS, 64, 80, 65_535):
            verdict = lookup.decide(WEB, egress=False, protocol=protocol, port=port)
            assert verdict.allowed == searched([*own, *any_peer], protocol, port), (protocol, port)
            other = lookup.decide(DB, egress=False, protocol=protocol, port=port)
            assert other.allowed == searched(any_peer, protocol, port), (protocol, port)


@settings(max_examples=examples(80), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(own=rule_entries)
def test_every_entry_says_what_an_entry_of_its_policy_says_for_each_of_its_ports(
    join_from: None, own: list[RuleEntry]
) -> None:
    for match, entry in merge_rule_entries(own).items():
        mine = [one for one in own if one.cookie == entry.cookie and one.precedence == entry.precedence]
        for port in PORTS:
            here = RuleEntry(match, entry.precedence, "", 0)
            for protocol in (6, 17):
                if matches(here, protocol, port):
                    assert any(matches(one, protocol, port) for one in mine), (match, port)
