"""Maps as people read them: fields by name, addresses as text, what is empty left out."""

from typing import Any, cast

import pytest

from cilia.abi import maps
from cilia.abi.structs import Ct4Key, Endpoint, EndpointKey, IpcacheEntry, IpcacheKey
from services.agent.address import number, packed
from services.agent.api.mapview import LAYOUTS, _fields, contents
from tests.unit.agent.maps import FakeMap, FakeObjects


class ReadableMap(FakeMap[Any, Any]):
    def keys(self) -> list[Any]:
        return list(self.held)


class ReadableObjects(FakeObjects):
    """Maps that can be walked by key, with a value per CPU or without."""

    def map(self, layout: Any) -> Any:
        return self._maps.setdefault(layout.name, ReadableMap(layout))

    per_cpu_map = map


@pytest.fixture
def objects() -> ReadableObjects:
    return ReadableObjects()


def shown(objects: ReadableObjects, name: str, limit: int = 100) -> Any:
    return contents(objects.loaded, name, limit)


def test_addresses_macs_and_numbers_are_shown_as_people_write_them(objects: ReadableObjects) -> None:
    value = Endpoint(11, 300, 7, 4, bytes.fromhex("020000000001"), 1)
    objects.map(maps.ENDPOINTS).update(EndpointKey(packed(number("10.1.0.2"))), value)
    ((key, found),) = shown(objects, "cilia_endpoints").entries
    assert key == {"address": "10.1.0.2"}
    assert (found["identity"], found["ifindex"], found["mac"]) == (300, 11, "02:00:00:00:00:01")


@pytest.mark.parametrize("address", ["10.1.0.0", "fd00::", "::"])
def test_addresses_of_both_families_are_told_apart(objects: ReadableObjects, address: str) -> None:
    objects.map(maps.IPCACHE).update(IpcacheKey(120, packed(number(address))), IpcacheEntry(300, 0, 0, 0))
    ((key, _),) = shown(objects, "cilia_ipcache").entries
    assert (key["prefixlen"], key["address"]) == (120, address)


def test_both_ends_of_a_flow_have_a_field_each() -> None:
    key = Ct4Key((0x0A010002, 0x0A020005), (40_000, 80), 6)
    assert _fields(key) == {
        "address0": "10.1.0.2",
        "address1": "10.2.0.5",
        "port0": 40_000,
        "port1": 80,
        "protocol": 6,
    }


def test_a_plain_value_is_called_value() -> None:
    assert _fields(7) == {"value": 7}


def test_no_more_entries_than_asked_for_are_shown_and_that_is_said(objects: ReadableObjects) -> None:
    for each in range(5):
        objects.map(maps.IPCACHE).update(IpcacheKey(128, packed(each + 1)), IpcacheEntry(300, 0, 0, 0))
    found = shown(objects, "cilia_ipcache", 3)
    assert (len(found.entries), found.truncated, found.name) == (3, True, "cilia_ipcache")
    assert not shown(objects, "cilia_ipcache", 5).truncated


def test_of_an_array_only_what_is_not_zero_is_shown(objects: ReadableObjects) -> None:
    layout = LAYOUTS["cilia_policy_slots"]
    zero = layout.value.unpack(bytes(layout.value.size))
    one = layout.value.unpack(b"\x01" + bytes(layout.value.size - 1))
    objects.map(layout).update(0, zero)
    objects.map(layout).update(1, one)
    ((key, _),) = shown(objects, "cilia_policy_slots").entries
    assert key == {"value": 1}


def test_an_entry_that_goes_while_it_is_read_is_left_out(objects: ReadableObjects) -> None:
    opened = cast(ReadableMap, objects.map(maps.IPCACHE))
    opened.update(IpcacheKey(128, packed(1)), IpcacheEntry(300, 0, 0, 0))
    opened.lookup = lambda key: None  # type: ignore[method-assign]
    assert shown(objects, "cilia_ipcache").entries == ()


def test_a_map_that_there_is_not_has_no_contents(objects: ReadableObjects) -> None:
    with pytest.raises(KeyError):
        shown(objects, "cilia_nothing")
