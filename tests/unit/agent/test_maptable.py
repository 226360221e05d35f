"""A map as the table of a reconciler."""

from collections.abc import Iterable

from cilia.abi import maps
from cilia.abi.enums import HostAddressKind
from cilia.abi.structs import HostAddressKey
from services.agent.address import number, packed, unpacked
from services.agent.maptable import MapTable
from tests.unit.agent.maps import FakeObjects

OWN, BROADCAST = HostAddressKind.OWN, HostAddressKind.BROADCAST
FIRST, SECOND, SIXTH = number("192.0.2.1"), number("192.0.2.2"), number("2001:db8::1")


class Table:
    def __init__(self, **capacities: int) -> None:
        self.objects = FakeObjects(**capacities)
        self.written: list[int] = []
        self.table: MapTable[int, HostAddressKind, HostAddressKey, int] = MapTable(
            self.objects.loaded,
            maps.HOST_ADDRESSES,
            pack_key=lambda address: HostAddressKey(packed(address)),
            pack_value=int,
            unpack=lambda key, kind: (unpacked(key.address), HostAddressKind(kind)),
            written=self.note,
        )

    def note(self, written: Iterable[int]) -> None:
        self.written += sorted(written)


def test_objects_are_read_as_they_were_written() -> None:
    here = Table()
    assert here.table.write({FIRST: OWN, SECOND: BROADCAST, SIXTH: OWN}).full == ""
    assert here.table.read() == {FIRST: OWN, SECOND: BROADCAST, SIXTH: OWN}
    here.table.write({SECOND: None, SIXTH: None})
    assert here.table.read() == {FIRST: OWN}


def test_who_wants_to_know_hears_what_was_written_and_removed() -> None:
    here = Table()
    here.table.write({FIRST: OWN})
    here.table.write({FIRST: None, SECOND: OWN})
    assert here.written == [FIRST, FIRST, SECOND]


def test_removals_come_first_and_a_full_map_says_what_is_left() -> None:
    here = Table(cilia_host_addresses=2)
    here.table.write({FIRST: OWN, SECOND: OWN})
    assert here.table.write({SIXTH: OWN, SECOND: None}).full == ""
    here.written.clear()
    result = here.table.write({FIRST: BROADCAST, SECOND: OWN})
    assert "full: 2 entries" in result.full
    assert result.left == {SECOND}
    assert here.written == [FIRST]
    assert here.table.read() == {FIRST: BROADCAST, SIXTH: OWN}


def test_the_map_is_given_back() -> None:
    here = Table()
    here.table.close()
    assert here.objects.map(maps.HOST_ADDRESSES).closed == 2
