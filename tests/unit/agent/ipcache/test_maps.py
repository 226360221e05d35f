"""cilia_ipcache as the agent writes it: room, digest, and the flows that are decided anew."""

from collections.abc import Mapping
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.abi import maps
from cilia.abi.enums import PolicyLimit
from cilia.abi.structs import IpcacheEntry, IpcacheKey
from services.agent.address import HOST_BITS, Prefix, number, packed, prefix
from services.agent.ipcache.desired import Location
from services.agent.ipcache.maps import IpcacheMap
from services.agent.ipcache.revisions import AddressRevisions, buckets_of
from tests.unit.agent.maps import FakeMap, FakeObjects

FIRST, SECOND, THIRD = (Prefix(number(f"10.9.0.{last}")) for last in (1, 2, 3))
OFFICE = prefix("203.0.113.0/24")


class Revisions:
    def __init__(self) -> None:
        self.renewed: list[Prefix] = []

    def renew(self, prefix: Prefix) -> None:
        self.renewed.append(prefix)


class Table:
    def __init__(self, capacity: int = 100, left: Mapping[str, Location] = {}) -> None:
        objects = FakeObjects(cilia_ipcache=capacity)
        self.kernel: FakeMap[IpcacheKey, IpcacheEntry] = objects.map(maps.IPCACHE)
        self.kernel.held = {
            IpcacheKey(HOST_BITS, packed(number(at))): IpcacheEntry(*where) for at, where in left.items()
        }
        self.revisions = Revisions()
        self.map = IpcacheMap(objects.loaded, cast(AddressRevisions, self.revisions))

    def write(self, changes: dict[Prefix, Location | None]) -> str:
        """Write as the reconciler does, which keeps the entries; return why the map is full."""
        result = self.map.write(changes)
        for each, location in changes.items():
            if location is None:
                self.map.entries.pop(each, None)
            elif each not in result.left:
                self.map.entries[each] = location
        return result.full


def test_what_a_former_agent_left_is_known_with_its_digest() -> None:
    table = Table(left={"10.9.0.1": Location(300, 7)})
    assert table.map.entries == {FIRST: Location(300, 7)}
    assert table.map.digest == table.map.read_digest() != 0


def test_removals_make_room_for_what_comes_with_them() -> None:
    table = Table(capacity=2)
    assert table.write({FIRST: Location(1), SECOND: Location(2)}) == ""
    assert table.write({THIRD: Location(3), FIRST: None}) == ""
    assert table.map.read() == {SECOND: Location(2), THIRD: Location(3)}


def test_a_full_map_says_which_entries_found_no_room() -> None:
    table = Table(capacity=2)
    result = table.map.write({FIRST: Location(1), SECOND: Location(2), THIRD: Location(3)})
    assert "full: 2 entries" in result.full
    assert (result.left, result.refused) == ({THIRD}, {})


def test_flows_of_all_changed_addresses_are_decided_anew() -> None:
    table = Table()
    table.write({FIRST: Location(1), OFFICE: Location(2)})
    table.write({FIRST: None})
    assert table.revisions.renewed == [FIRST, OFFICE, FIRST]


@given(st.lists(st.dictionaries(st.sampled_from([FIRST, SECOND, THIRD, OFFICE]), st.integers(-1, 2)), max_size=6))
def test_the_digest_follows_the_writes_also_of_a_full_map(batches: list[dict[Prefix, int]]) -> None:
    table = Table(capacity=3)
    for batch in batches:
        table.write({each: None if identity < 0 else Location(identity) for each, identity in batch.items()})
        assert table.map.digest == table.map.read_digest()
        assert table.map.entries == table.map.read()


def test_a_digest_is_adopted_with_the_entries_that_were_found() -> None:
    table = Table()
    table.write({FIRST: Location(1)})
    table.kernel.held.clear()
    assert table.map.read_digest() != table.map.digest
    table.map.adopt({FIRST: (None, Location(1))})
    assert table.map.read_digest() == table.map.digest


@pytest.mark.parametrize(
    ("cidr", "count"),
    [("10.1.0.5/32", 1), ("10.1.0.0/24", 256), ("2001:db8::/120", 256), ("10.0.0.0/8", PolicyLimit.ADDRESS_BUCKETS)],
)
def test_a_prefix_has_the_buckets_of_its_addresses(cidr: str, count: int) -> None:
    buckets = buckets_of(prefix(cidr))
    assert len(buckets) == count
    assert number(cidr.split("/")[0]) % PolicyLimit.ADDRESS_BUCKETS in buckets


@given(st.integers(0, 2**128 - 1))
def test_an_address_lies_in_a_bucket_of_every_prefix_that_holds_it(address: int) -> None:
    (bucket,) = buckets_of(Prefix(address))
    for length in (0, 96, 120, 127):
        behind = HOST_BITS - length
        assert bucket in buckets_of(Prefix(address >> behind << behind, length))
