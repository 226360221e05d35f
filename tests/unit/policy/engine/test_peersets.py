"""Sets of peers: few entries for many, and entries of their own where two numbers are equal."""

import pytest

from cilia.contracts.tables import FIRST_PEER_SET, PolicyEntry
from cilia.policy.engine import peersets
from cilia.policy.engine.mapstate import ALLOW, DENY, NO_ENTRIES, Entries, Match
from cilia.policy.engine.peersets import NOTHING, PeerSets, split_by_direction

EVERYTHING = Match(False, 0, 0, 0)


def entries(*ports: int, egress: bool = False, precedence: int = ALLOW) -> Entries:
    return {Match(egress, 6, port, 16): PolicyEntry(precedence == DENY, precedence, 1) for port in ports}


def test_one_entry_is_written_as_it_is() -> None:
    found = split_by_direction(entries(80))
    assert (found.rows, [part.number for part in found.parts]) == (entries(80), [0])


def test_several_are_a_set_of_which_the_peer_is_a_member() -> None:
    found = split_by_direction(entries(80, 443))
    (part,) = found.parts
    assert part.number >= FIRST_PEER_SET
    assert found.rows == {EVERYTHING: PolicyEntry(deny=False, precedence=0, peer_set=part.number)}


def test_each_direction_is_shared_by_itself() -> None:
    found = split_by_direction(entries(80, 443) | entries(53, egress=True))
    into, out = found.parts
    assert (into.entries, out.entries, out.number) == (entries(80, 443), entries(53, egress=True), 0)
    assert found.rows.keys() == {EVERYTHING, Match(True, 6, 53, 16)}


def test_nothing_is_nothing() -> None:
    assert split_by_direction({}) is NOTHING


def test_the_number_depends_on_the_entries_and_not_on_their_order() -> None:
    one, other = split_by_direction(entries(80, 443)), split_by_direction(entries(443, 80))
    assert one.parts[0].number == other.parts[0].number
    assert one.parts[0].number != split_by_direction(entries(80, 444)).parts[0].number
    assert one.parts[0].number != split_by_direction(entries(80, 443, precedence=DENY)).parts[0].number


def test_a_set_is_there_from_its_first_member_to_its_last() -> None:
    sets, peer = PeerSets(), split_by_direction(entries(80, 443))
    number = peer.parts[0].number
    assert (sets.exchange(NOTHING, peer), sets.exchange(NOTHING, peer)) == ({number: True}, {})
    assert sets.entries(number) == entries(80, 443)
    assert (sets.exchange(peer, NOTHING), sets.entries(number)) == ({}, entries(80, 443))
    assert (sets.exchange(peer, NOTHING), sets.entries(number)) == ({number: True}, NO_ENTRIES)


def test_a_member_that_changes_sets_leaves_the_one_and_joins_the_other() -> None:
    sets, one, other = PeerSets(), split_by_direction(entries(80, 443)), split_by_direction(entries(1, 2))
    sets.exchange(NOTHING, one)
    assert sets.exchange(one, other) == {one.parts[0].number: True, other.parts[0].number: True}
    assert sets.exchange(other, other) == {}
    assert (sets.entries(one.parts[0].number), sets.entries(other.parts[0].number)) == (NO_ENTRIES, entries(1, 2))


@pytest.fixture
def one_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peersets, "HASH_BITS", 0)


def test_members_of_two_sets_with_one_number_keep_entries_of_their_own(one_number: None) -> None:
    sets = PeerSets()
    web, db = split_by_direction(entries(80, 443)), split_by_direction(entries(1, 2))
    number = web.parts[0].number
    assert number == db.parts[0].number
    sets.exchange(NOTHING, web)
    assert (sets.is_clear(number), sets.rows(web)) == (True, web.rows)
    assert sets.exchange(NOTHING, db) == {number: True}
    assert not sets.is_clear(number)
    assert (sets.entries(number), sets.rows(web), sets.rows(db)) == (NO_ENTRIES, entries(80, 443), entries(1, 2))
    assert sets.exchange(db, NOTHING) == {number: False}
    assert (sets.entries(number), sets.rows(web)) == (entries(80, 443), web.rows)
