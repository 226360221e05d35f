"""cilia_non_masquerade as the agent reads and writes it."""

from cilia.abi import maps
from services.agent.address import prefix
from services.agent.nat.maps import NonMasqueradeMap
from tests.unit.agent.maps import FakeObjects

OFFICE, BLOCK, BLOCK6 = prefix("192.0.2.0/24"), prefix("10.1.1.0/26"), prefix("fd00:1::/120")


def test_prefixes_of_both_families_are_read_as_they_were_written() -> None:
    table = NonMasqueradeMap(FakeObjects().loaded)
    assert table.write({OFFICE: 1, BLOCK: 2, BLOCK6: 1}).full == ""
    assert table.read() == dict.fromkeys((OFFICE, BLOCK, BLOCK6), 1)
    table.write({BLOCK: None, BLOCK6: None})
    assert table.read() == {OFFICE: 1}


def test_removals_come_first_and_a_full_map_says_what_is_left() -> None:
    table = NonMasqueradeMap(FakeObjects(cilia_non_masquerade=2).loaded)
    table.write({OFFICE: 1, BLOCK: 1})
    assert table.write({BLOCK6: 1, BLOCK: None}).full == ""
    result = table.write({OFFICE: 1, BLOCK: 1})
    assert "full: 2 entries" in result.full
    assert result.left == {BLOCK}
    assert table.read().keys() == {OFFICE, BLOCK6}


def test_the_map_is_given_back() -> None:
    objects = FakeObjects()
    NonMasqueradeMap(objects.loaded).close()
    assert objects.map(maps.NON_MASQUERADE).closed == 2
