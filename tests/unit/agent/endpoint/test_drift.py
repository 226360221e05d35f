"""cilia_endpoints: pods as the programs see them, and what somebody else makes of them."""

from collections.abc import Callable
from typing import Any, cast

import pytest
from msgspec.structs import replace

from cilia.abi import maps
from cilia.abi.enums import EndpointFlag
from cilia.abi.structs import Endpoint as EndpointValue
from cilia.abi.structs import EndpointKey
from cilia.contracts.ids import EndpointId, Identity
from cilia.datapath.errors import MapFull
from services.agent.address import Prefix, number, packed
from services.agent.endpoint.drift import EndpointDrift, LinkDrift
from services.agent.endpoint.maps import EndpointMap
from services.agent.endpoint.store import Endpoints, Pod
from services.agent.ipcache.revisions import AddressRevisions
from tests.unit.agent.maps import FakeMap, FakeObjects

IPV4, IPV6 = number("10.1.0.5"), number("fd00::5")
POD = Pod(
    id=EndpointId(7),
    namespace="shop",
    name="web",
    netns="/run/netns/web",
    interface="eth0",
    host_interface="lxc7",
    mac="02:00:00:00:00:07",
    ipv4="10.1.0.5",
    ipv6="fd00::5",
    gateway="10.1.0.1",
    gateway_ipv6="fd00::1",
    labels=(),
    identity=Identity(300),
    ifindex=42,
)


class Revisions:
    def __init__(self) -> None:
        self.renewed: list[Prefix] = []
        self.changes = 0

    def note_change(self) -> None:
        self.changes += 1

    def renew(self, prefix: Prefix) -> None:
        self.renewed.append(prefix)


class Table:
    """The map, somebody else who writes to it, and what happens while it is read."""

    def __init__(self, capacity: int = 10) -> None:
        objects = FakeObjects(cilia_endpoints=capacity)
        self.kernel: FakeMap[EndpointKey, EndpointValue] = objects.map(maps.ENDPOINTS)
        self.revisions = Revisions()
        self.map = EndpointMap(objects.loaded, cast(AddressRevisions, self.revisions))
        self.during: Callable[[], None] = lambda: None
        self.drift = EndpointDrift(self.map, self._in_thread)

    async def _in_thread(self, read: Callable[[], Any]) -> Any:
        found = read()
        self.during()
        return found


@pytest.fixture
def table() -> Table:
    made = Table()
    made.map.put_pod(POD, 3)
    return made


def test_a_pod_is_known_by_each_of_its_addresses(table: Table) -> None:
    value = EndpointValue(42, 300, 7, 3, bytes((2, 0, 0, 0, 0, 7)), 0)
    assert table.map.read() == table.map.entries == {IPV4: value, IPV6: value}


def test_what_was_denied_is_decided_anew_after_each_write(table: Table) -> None:
    assert table.revisions.changes == 2
    table.map.remove(IPV4)
    assert table.revisions.changes == 3


def test_a_pod_under_audit_is_marked() -> None:
    table = Table()
    table.map.put_pod(Pod(**{name: getattr(POD, name) for name in POD.__struct_fields__} | {"audit": True}), 3)
    assert {value.flags for value in table.map.read().values()} == {EndpointFlag.AUDIT}


def test_a_pod_without_room_is_refused_and_what_was_written_is_known() -> None:
    table = Table(capacity=1)
    with pytest.raises(MapFull):
        table.map.put_pod(POD, 3)
    assert table.map.entries.keys() == table.map.read().keys() == {IPV4}


def test_an_address_that_goes_is_forgotten_even_if_it_is_not_there(table: Table) -> None:
    table.map.remove(IPV4)
    table.map.remove(IPV4)
    assert table.map.read().keys() == table.map.entries.keys() == {IPV6}


def test_an_agent_that_starts_knows_what_the_former_left(table: Table) -> None:
    objects = FakeObjects()
    objects.map(maps.ENDPOINTS).held = table.kernel.held
    assert EndpointMap(objects.loaded, cast(AddressRevisions, Revisions())).entries == table.map.entries


async def test_a_look_at_an_untouched_map_finds_nothing(table: Table) -> None:
    (drift,) = await table.drift.look()
    assert drift.differences == ()


async def test_changed_missing_and_foreign_entries_are_mended_and_their_flows_decided_anew(table: Table) -> None:
    foreign, before = number("10.1.0.99"), table.map.read()
    table.kernel.held[EndpointKey(packed(IPV4))] = before[IPV4]._replace(flags=1)
    del table.kernel.held[EndpointKey(packed(IPV6))]
    table.kernel.held[EndpointKey(packed(foreign))] = before[IPV4]
    (drift,) = await table.drift.look()
    assert drift.part == "endpoints"
    assert [each.partition(" was ")[0] for each in drift.differences] == ["10.1.0.5", "fd00::5", "10.1.0.99"]
    assert "was missing, not Endpoint(" in drift.differences[1]
    assert drift.differences[2].endswith("not missing")
    assert table.map.read() == before
    assert table.revisions.renewed == [Prefix(IPV4), Prefix(IPV6), Prefix(foreign)]


async def test_a_pod_that_comes_during_a_look_is_no_difference(table: Table) -> None:
    def come() -> None:
        table.during = lambda: None
        table.map.put(number("10.1.0.6"), table.map.entries[IPV4])

    table.during = come
    (drift,) = await table.drift.look()
    assert drift.differences == ()
    assert number("10.1.0.6") in table.map.read()


async def test_pods_whose_link_is_gone_are_recovered_and_told() -> None:
    leaving, unlinked = replace(POD, id=EndpointId(8), name="leaving", disconnecting=True), replace(POD, ifindex=0)
    others = [leaving, replace(unlinked, id=EndpointId(9), name="unlinked")]
    recovered: list[EndpointId] = []

    async def recover(endpoint: EndpointId) -> bool:
        recovered.append(endpoint)
        return True

    for devices, lost in (([(42, "lxc7")], False), ([(43, "lxc7")], True), ([(42, "lxc8")], True), ([], True)):
        recovered.clear()
        drift = LinkDrift(Endpoints([POD, *others]), recover, lambda devices=devices: devices)  # type: ignore[misc]
        (told,) = await drift.look()
        assert recovered == ([POD.id] if lost else [])
        assert told.differences == (("shop/web had lost lxc7",) if lost else ())


def test_flows_of_a_pod_with_another_link_are_decided_anew() -> None:
    table = Table()
    table.map.put_pod(POD, 3)
    table.map.put_pod(POD, 4)
    assert table.revisions.renewed == []
    table.map.put_pod(replace(POD, ifindex=43), 4)
    assert table.revisions.renewed == [Prefix(IPV4), Prefix(IPV6)]
