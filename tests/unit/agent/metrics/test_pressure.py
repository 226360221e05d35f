"""Pressure of maps: entries that a room knows, or that are counted, by capacity."""

import pytest

from cilia.abi import maps
from cilia.abi.structs import Endpoint as EndpointValue
from cilia.abi.structs import EndpointKey
from cilia.metrics import Metrics
from services.agent.metrics.pressure import LAYOUTS, Pressure
from tests.unit.agent.maps import FakeObjects


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> FakeObjects:
    monkeypatch.setattr(Pressure, "_capacity", lambda _self, name: 100 if name == maps.IPCACHE.name else 8)
    return FakeObjects()


def shown(pressure: Pressure) -> dict[str, float]:
    metrics = Metrics()
    pressure.measure(metrics)
    lines = [line for line in metrics.prometheus().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_a_room_that_knows_its_entries_is_asked(objects: FakeObjects) -> None:
    entries = [25]
    pressure = Pressure(objects.loaded, {maps.IPCACHE.name: lambda: entries[0]})
    assert shown(pressure)['cilia_map_pressure_ratio{map="cilia_ipcache"}'] == 0.25
    entries[0] = 100
    assert shown(pressure)['cilia_map_pressure_ratio{map="cilia_ipcache"}'] == 1
    assert shown(pressure)['cilia_map_capacity_entries{map="cilia_ipcache"}'] == 100


def test_other_maps_are_counted_when_asked_for(objects: FakeObjects) -> None:
    pressure = Pressure(objects.loaded, {})
    assert shown(pressure)['cilia_map_pressure_ratio{map="cilia_endpoints"}'] == 0
    objects.map(maps.ENDPOINTS).update(EndpointKey(bytes(16)), EndpointValue(1, 2, 3, 4, bytes(6), 0))
    assert shown(pressure)['cilia_map_pressure_ratio{map="cilia_endpoints"}'] == 1 / 8


def test_an_array_is_shown_only_where_a_room_counts_its_use(objects: FakeObjects) -> None:
    assert not any("policy_slots" in name for name in shown(Pressure(objects.loaded, {})))
    pressure = Pressure(objects.loaded, {maps.POLICY_SLOTS.name: lambda: 4})
    assert shown(pressure)['cilia_map_pressure_ratio{map="cilia_policy_slots"}'] == 0.5


def test_every_map_that_can_fill_is_shown(objects: FakeObjects) -> None:
    names = {layout.name for layout in LAYOUTS}
    assert {maps.CT4.name, maps.CT6.name, maps.NAT.name, maps.POLICY.name, maps.IPCACHE.name} <= names
    entries = {layout.name: (lambda: 1) for layout in LAYOUTS}
    found = shown(Pressure(objects.loaded, entries))
    assert {f'cilia_map_pressure_ratio{{map="{name}"}}' for name in names} <= found.keys()
