"""Verdicts: the longest match of the peer and of any peer, and of both the higher rank."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.contracts.ids import Identity
from cilia.contracts.tables import FIRST_PEER_SET, PolicyEntry, PolicyKey
from cilia.policy.engine.mapstate import ALLOW, ANY_PEER, AUDITED_DEFAULT, AUDITED_DENY, DENY
from cilia.policy.engine.verdict import StateLookup, Verdict, decide

WEB, DB = Identity(256), Identity(257)
SET = Identity(FIRST_PEER_SET | 7)
State = dict[PolicyKey, PolicyEntry]


def key(peer: Identity, protocol: int = 0, port: int = 0, bits: int = 0, *, egress: bool = False) -> PolicyKey:
    return PolicyKey(egress, peer, protocol, port, bits)


def entry(precedence: int = ALLOW, cookie: int = 1) -> PolicyEntry:
    audited = precedence in (AUDITED_DENY, AUDITED_DEFAULT)
    return PolicyEntry(audited or precedence == DENY, precedence, cookie, audited)


def verdict(state: State, peer: Identity = WEB, *, protocol: int = 6, port: int = 80) -> Verdict:
    return decide(state, peer, egress=False, protocol=protocol, port=port)


def test_what_nothing_matches_is_denied_by_default() -> None:
    assert verdict({}) == Verdict(False)
    assert verdict({}).cookie == 0
    assert verdict({key(WEB, egress=True): entry()}) == Verdict(False)
    assert verdict({key(DB): entry()}) == Verdict(False)


@pytest.mark.parametrize(
    ("state", "cookie"),
    [
        ({key(WEB, 6, 80, 16): entry(cookie=1), key(WEB): entry(cookie=2)}, 1),
        ({key(WEB, 6, 64, 10): entry(cookie=1), key(WEB, 6, 0, 0): entry(cookie=2)}, 1),
        ({key(WEB, 17, 80, 16): entry(cookie=1), key(WEB, 6, 0, 0): entry(cookie=2)}, 2),
        ({key(WEB): entry(cookie=1), key(ANY_PEER, 6, 80, 16): entry(cookie=2)}, 2),
        ({key(WEB, 6, 80, 16): entry(cookie=1), key(ANY_PEER, 6, 80, 16): entry(cookie=2)}, 1),
        ({key(WEB, 6, 80, 16): entry(cookie=1), key(ANY_PEER): entry(DENY, 2)}, 2),
        ({key(WEB): entry(DENY, 1), key(ANY_PEER, 6, 80, 16): entry(cookie=2)}, 1),
        ({key(WEB): entry(AUDITED_DENY, 1), key(ANY_PEER, 6, 80, 16): entry(cookie=2)}, 1),
        ({key(WEB): entry(AUDITED_DEFAULT, 1), key(ANY_PEER, 6, 80, 16): entry(cookie=2)}, 2),
    ],
    ids=[
        "the port before everything",
        "the longer prefix",
        "the packet's protocol",
        "the narrower of equal precedence",
        "the peer's of the same match",
        "a denial of any peer",
        "a denial of the peer",
        "an audited denial above an allow",
        "an audited default below an allow",
    ],
)
def test_the_entry_that_decides(state: State, cookie: int) -> None:
    assert verdict(state).cookie == cookie


def test_audited_denials_pass_and_say_so() -> None:
    found = verdict({key(WEB): entry(AUDITED_DENY)})
    assert (found.allowed, found.audited) == (True, True)
    found = verdict({key(WEB): entry()})
    assert (found.allowed, found.audited) == (True, False)
    found = verdict({key(WEB): entry(DENY)})
    assert (found.allowed, found.audited) == (False, False)


def test_a_member_of_a_set_has_the_sets_entries() -> None:
    state = {
        key(WEB): PolicyEntry(deny=False, precedence=0, peer_set=SET),
        key(SET, 6, 80, 16): entry(cookie=5),
    }
    assert verdict(state).cookie == 5
    assert not verdict(state, port=81).allowed
    assert not verdict(state, DB).allowed


def test_a_protocol_without_ports_meets_entries_for_all_of_it_and_for_everything() -> None:
    state = {key(WEB, 47): entry(cookie=1), key(ANY_PEER): entry(AUDITED_DEFAULT, 2)}
    assert verdict(state, protocol=47, port=0).cookie == 1
    assert verdict(state, protocol=50, port=0).cookie == 2


entries = st.sampled_from([entry(precedence, cookie) for precedence, cookie in product((ALLOW, DENY), (1, 2))])
keys = st.builds(
    lambda peer, protocol, port, bits: (
        key(peer, protocol, port & ~(0xFFFF >> bits) & 0xFFFF, bits) if protocol else key(peer)
    ),
    st.sampled_from([WEB, ANY_PEER]),
    st.sampled_from([0, 6, 17]),
    st.integers(0, 127),
    st.sampled_from([0, 9, 12, 15, 16]),
)


def searched(state: State, protocol: int, port: int) -> Verdict:
    """Decide by trying every entry, one after the other."""

    def longest(peer: Identity) -> tuple[PolicyKey, PolicyEntry] | None:
        found = [
            (each, value)
            for each, value in state.items()
            if each.identity == peer
            and each.protocol in (0, protocol)
            and (not each.protocol or (each.port ^ port) >> (16 - each.port_bits) == 0)
        ]
        return max(found, key=lambda item: (min(item[0].protocol, 1), item[0].port_bits), default=None)

    both = [found for found in (longest(WEB), longest(ANY_PEER)) if found is not None]
    if not both:
        return Verdict(False)

    def rank(found: tuple[PolicyKey, PolicyEntry]) -> tuple[int, int, int, bool]:
        each, value = found
        return value.precedence, min(each.protocol, 1), each.port_bits, each.identity == WEB

    own = longest(WEB)
    chosen = own if own is not None and own[1].precedence == DENY else max(both, key=rank)
    return Verdict(not chosen[1].deny, *chosen)


@given(st.dictionaries(keys, entries, max_size=8), st.sampled_from([6, 17]), st.integers(0, 127))
def test_a_prepared_lookup_finds_what_a_search_finds(state: State, protocol: int, port: int) -> None:
    found = StateLookup(state).decide(WEB, egress=False, protocol=protocol, port=port)
    assert found == searched(state, protocol, port)
