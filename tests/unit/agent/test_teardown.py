"""Teardown of a node: all that the agent made goes, others' things stay; never under an agent."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import pytest

from cilia.bus import BusConfig
from cilia.contracts.ids import Incarnation, NodeName, Revision
from cilia.contracts.ipam import UnregisterNode
from cilia.contracts.messages import Revised
from services.agent import teardown as module
from services.agent.config import Config
from services.agent.endpoint.store import PodFiles
from services.agent.node.registration import MEMBERSHIP_FILE, Kept, write_membership
from services.agent.teardown import AgentRuns, run, tear_down
from tests.unit.agent.endpoint.test_store import pod
from tests.unit.agent.scripted_bus import ScriptedBus


class FakeNetlink:
    """Devices by name, and which were removed."""

    def __init__(self) -> None:
        self.devices = {"lxc7": 1, "lxc8": 2, "cilia_host": 3, "cilia_vxlan": 4, "eth0": 5}

    def __enter__(self) -> "FakeNetlink":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def link_lookup(self, ifname: str) -> list[int]:
        return [self.devices[ifname]] if ifname in self.devices else []

    def link(self, action: str, index: int) -> None:
        assert action == "del"
        self.devices = {name: number for name, number in self.devices.items() if number != index}


class FakeRoutes:
    def __init__(self) -> None:
        self.routes: dict[str, object] = {"10.2.0.0/24": "a route", "fd00:2::/64": "another"}
        self.closed = False

    def read(self) -> dict[str, object]:
        return dict(self.routes)

    def write(self, changes: dict[str, object]) -> None:
        for network, route in changes.items():
            assert route is None
            del self.routes[network]

    def close(self) -> None:
        self.closed = True


class Node:
    """A node on which an agent was, in a directory."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config = Config(
            node=NodeName("node1"),
            ipv4="192.0.2.1",
            state_directory=str(directory / "state"),
            socket=str(directory / "agent.sock"),
            pin_directory=str(directory / "pins"),
        )
        self.netlink, self.routes = FakeNetlink(), FakeRoutes()
        self.dropped: list[str] = []
        self.pins, self.state = directory / "pins", directory / "state"
        monkeypatch.setattr(module, "IPRoute", lambda: self.netlink)
        monkeypatch.setattr(module, "RouteTable", lambda: self.routes)
        monkeypatch.setattr(module, "TrafficControl", lambda: self.netlink)
        monkeypatch.setattr(module, "drop_links", lambda pins: self.dropped.append(f"links of {pins.name}"))
        monkeypatch.setattr(module, "drop_filters", lambda _: self.dropped.append("filters"))

    def fill(self) -> None:
        files = PodFiles(self.state / "endpoints")
        files.save(pod(7))
        files.save(pod(8, "db"))
        write_membership(self.state / MEMBERSHIP_FILE, Kept(Incarnation(7), ("10.1.0.0/28",)))
        self.pins.mkdir()
        (self.pins / "cilia_ct4").touch()


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path, monkeypatch)


def test_all_that_an_agent_made_goes_and_what_others_have_stays(node: Node) -> None:
    node.fill()
    tear_down(node.config)
    assert node.dropped == ["links of pins", "filters"]
    assert node.netlink.devices == {"eth0": 5}
    assert (node.routes.routes, node.routes.closed) == ({}, True)
    assert not node.pins.exists()
    assert [path.name for path in node.state.iterdir()] == [MEMBERSHIP_FILE]


def test_what_is_gone_already_is_fine(node: Node) -> None:
    node.netlink.devices = {"eth0": 5}
    tear_down(node.config)
    tear_down(node.config)
    assert node.netlink.devices == {"eth0": 5}


@contextmanager
def listening(path: str) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        yield


def test_under_a_running_agent_nothing_is_removed(node: Node) -> None:
    node.fill()
    with listening(node.config.socket), pytest.raises(AgentRuns, match="stop it first"):
        tear_down(node.config)
    assert node.dropped == []
    assert len(node.netlink.devices) == 5
    assert (node.pins / "cilia_ct4").exists()


def test_a_socket_that_a_dead_agent_left_is_no_agent(node: Node) -> None:
    node.fill()
    with listening(node.config.socket):
        pass
    assert Path(node.config.socket).exists()
    tear_down(node.config)
    assert not node.pins.exists()


def test_a_node_that_is_freed_leaves_the_cluster_as_the_incarnation_that_it_was(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.fill()
    bus = ScriptedBus(ipam_unregister=lambda _: Revised(Revision(9)))

    @asynccontextmanager
    async def connect(*_: object, **__: object) -> AsyncIterator[ScriptedBus]:
        yield bus

    monkeypatch.setattr(module, "connect_bus", connect)
    asyncio.run(run(node.config))
    assert [message for _, message in bus.asked] == [UnregisterNode(NodeName("node1"), Incarnation(7))]
    assert list(node.state.iterdir()) == []
    asyncio.run(run(node.config))
    assert len(bus.asked) == 1


def test_where_the_cluster_cannot_be_asked_somebody_is_told_what_to_do(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    node.fill()
    nowhere = BusConfig(urls=("nats://127.0.0.1:1",))
    monkeypatch.setattr(module, "LEAVE_SECONDS", 0.2)
    asyncio.run(run(msgspec.structs.replace(node.config, nats=nowhere)))
    assert "cilia node delete node1" in caplog.text
    assert list(node.state.iterdir()) == []
