"""The node's room: who hears of a registration, in which order, and of changes of nodes."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from cilia.abi import maps
from cilia.abi.enums import GatewayFamily
from cilia.contracts.ids import NodeName
from cilia.contracts.ipam import Registered, RegisterNode
from cilia.contracts.messages import Empty
from cilia.contracts.tables import Node
from services.agent.address import number, packed
from services.agent.config import Config
from services.agent.kernel import Kernel
from services.agent.loader.devices import NodeDevices
from services.agent.node import room as module
from services.agent.node.pool import Addresses
from services.agent.node.room import NodeRoom
from services.agent.node.tables import Tables
from tests.unit.agent.loops import running, until
from tests.unit.agent.maps import FakeObjects
from tests.unit.agent.node.test_membership import answer
from tests.unit.agent.tables import MirroredTable

N2 = NodeName("node2")
NODE2 = Node(N2, "192.0.2.2")


class FakeKernel:
    """Devices, maps, and threads that run everything at once."""

    def __init__(self) -> None:
        self.devices = NodeDevices(host=2, net=3, vxlan=4, uplinks=(5,), mtu_bytes=1450)
        self.fake_objects = FakeObjects()
        self.objects = self.fake_objects.loaded
        self.links = self.readers = self

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


class FakeBus:
    """A bus whose ipam registers every node."""

    def __init__(self) -> None:
        self.connected = True
        self.subjects = self
        self.asked: list[str] = []

    def on_reconnect(self, _listener: Callable[[], None]) -> None:
        """Never call it."""

    def request(self, *_: Any, **__: Any) -> Any:
        if _ and isinstance(_[0], str) and len(_) == 2:
            return ".".join(_)
        return self._answer(_[1])

    async def _answer(self, asked: Any) -> Registered | Empty:
        self.asked.append(type(asked).__name__)
        return answer() if isinstance(asked, RegisterNode) else Empty()


class Setting:
    """The room over fakes, and what it told whom."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kernel, self.bus = FakeKernel(), FakeBus()
        self.tables = {name: MirroredTable[Any, Any]() for name in ("nodes", "endpoints", "prefixes", "policies")}
        self.told: list[str] = []
        resolved: MirroredTable[Any, Any] = MirroredTable(every=False)
        subscribed = Tables(resolved=resolved.subscriber, **{k: v.subscriber for k, v in self.tables.items()})
        monkeypatch.setattr(Tables, "subscribe", lambda *_: subscribed)
        monkeypatch.setattr(module, "set_gateways", lambda device, of: self.told.append(f"{device} has {of}"))
        config = Config(node=NodeName("node1"), ipv4="192.0.2.1", state_directory=str(directory))
        self.room = NodeRoom(config, cast(Kernel, self.kernel), cast(Any, self.bus))


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setting:
    return Setting(tmp_path, monkeypatch)


async def test_the_device_and_the_programs_know_the_gateway_before_the_rooms_hear_of_it(setting: Setting) -> None:
    gateways = setting.kernel.fake_objects.map(maps.GATEWAYS)

    def hear(name: str) -> Callable[[Addresses], None]:
        return lambda heard: setting.told.append(f"{name}: {heard.ipv4}, {len(gateways.held)} in the map")

    setting.room.registered += [hear("first"), hear("second")]
    async with running(setting.room.registration.run):
        await until(lambda: len(setting.told) == 3)
    assert setting.told == [
        "2 has ['10.1.0.1']",
        "first: 10.1.0.1, 1 in the map",
        "second: 10.1.0.1, 1 in the map",
    ]
    assert gateways.held == {GatewayFamily.IPV4: packed(number("10.1.0.1"))}


async def test_the_status_tells_whether_the_node_is_registered(setting: Setting) -> None:
    (before,) = setting.room.statuses()
    assert (before.name, before.pending, before.last_error) == ("registration", 1, "not registered yet")
    async with running(setting.room.registration.run):
        await setting.room.registration.incarnation()
    (after,) = setting.room.statuses()
    assert (after.pending, after.last_error) == (0, "")


def test_a_bus_that_is_away_is_an_error_beside_that_of_the_registration(setting: Setting) -> None:
    assert [*setting.room.errors()] == ["", "not registered yet"]
    setting.bus.connected = False
    assert next(iter(setting.room.errors())) == "the bus is away"


async def test_changes_of_nodes_reach_every_feed_in_order(setting: Setting) -> None:
    heard: list[tuple[str, list[NodeName], list[NodeName]]] = []

    def feed(name: str) -> Callable[[Mapping[NodeName, Node], Iterable[NodeName]], None]:
        return lambda upserts, removes: heard.append((name, list(upserts), list(removes)))

    setting.room.feeds += [feed("ipcache"), feed("routes")]
    async with running(setting.room.loops()["nodes"]):
        setting.tables["nodes"].commit({N2: NODE2})
        setting.tables["nodes"].commit({}, [N2], sequence=2)
        await until(lambda: len(heard) == 4)
    assert heard == [
        ("ipcache", [N2], []),
        ("routes", [N2], []),
        ("ipcache", [], [N2]),
        ("routes", [], [N2]),
    ]


def test_every_table_has_a_loop_of_its_own(setting: Setting) -> None:
    loops = setting.room.loops()
    tables = {f"table {name}" for name in ("nodes", "endpoints", "resolved", "prefixes", "policies")}
    assert loops.keys() == tables | {"nodes", "registration", "blocks"}


async def test_the_look_compares_the_programs_gateways(setting: Setting) -> None:
    setting.room.gateways.write({number("10.1.0.1")})
    (look,) = setting.room.looks().values()
    assert [drift.differences for drift in await look()] == [()]
    setting.kernel.fake_objects.map(maps.GATEWAYS).held[GatewayFamily.IPV4] = packed(number("10.9.9.9"))
    (drift,) = await look()
    assert drift.differences == ("10.9.9.9 was there, not 10.1.0.1",)
    assert setting.kernel.fake_objects.map(maps.GATEWAYS).held == {GatewayFamily.IPV4: packed(number("10.1.0.1"))}


@pytest.mark.parametrize("row", [None, Node(NodeName("node1"), "192.0.2.1", pod_cidrs=("10.9.0.0/28",))])
async def test_a_node_whose_row_is_not_as_it_was_registers_again(setting: Setting, row: Node | None) -> None:
    own = NodeName("node1")
    async with running(setting.room.registration.run, setting.room.loops()["nodes"]):
        await setting.room.registration.incarnation()
        as_it_is = Node(own, "192.0.2.1", pod_cidrs=setting.room.pool.blocks)
        setting.tables["nodes"].commit({own: as_it_is})
        setting.tables["nodes"].commit({N2: NODE2}, sequence=2)
        await until(lambda: setting.bus.asked.count("Heartbeat") == 1)
        assert setting.bus.asked.count("RegisterNode") == 1
        setting.tables["nodes"].commit({own: row} if row else {}, [] if row else [own], sequence=3)
        await until(lambda: setting.bus.asked.count("RegisterNode") == 2)


async def test_rows_are_compared_as_of_the_registration_before_pods_hear_of_it(setting: Setting) -> None:
    heard: list[tuple[int, bool]] = []
    room = setting.room
    room.comparisons.append(lambda revision: heard.append((revision, room.registration.is_registered)))
    async with running(room.registration.run):
        await room.registration.incarnation()
    assert heard == [(answer().revision, False)]
