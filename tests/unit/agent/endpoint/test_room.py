"""The endpoints' room over parts in memory: what it tells, and what a registration makes it do."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from cilia.abi import maps
from cilia.contracts.agent import EndpointReference
from cilia.contracts.ids import Identity, NodeName, Revision
from cilia.metrics import Metrics
from services.agent.address import number
from services.agent.config import Config
from services.agent.endpoint.parts import WorkerLinks
from services.agent.endpoint.room import EndpointRoom, PodStore
from services.agent.endpoint.stages import link_of
from services.agent.endpoint.veth import PodLink, PodLinks
from services.agent.netlink.worker import Worker
from services.agent.node.pool import Addresses
from tests.fakes.clock import in_fake_time, settle
from tests.unit.agent.endpoint.node import WEB, Node, request
from tests.unit.agent.endpoint.test_store import pod
from tests.unit.agent.maps import FakeObjects


class FakeRows:
    pending = 0

    async def run(self) -> None:
        await asyncio.Event().wait()


class Closable:
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Setting:
    """A room over a node in memory."""

    def __init__(self) -> None:
        self.node, self.rows, self.links, self.table = Node(), FakeRows(), Closable(), Closable()
        node = self.node
        store = cast(PodStore, node)  # only its endpoints are asked for
        kernel, rest = cast(Any, self.node.kernel), cast(Any, None)
        links, rows, table = cast(Any, self.links), cast(Any, self.rows), cast(Any, self.table)
        self.room = EndpointRoom(store, kernel, node.lifecycle, links, rows, table, rest, node.republication)


def configured(directory: Path) -> Config:
    return Config(node=NodeName("node1"), ipv4="192.0.2.1", state_directory=str(directory))


@in_fake_time
async def test_endpoints_are_ready_once_their_policy_is_in_force_and_until_they_go() -> None:
    setting = Setting()
    await setting.room.lifecycle.create(request("web"))
    await setting.room.lifecycle.create(request("db"))
    assert setting.room.ready() == 2
    setting.node.kernel.policies[WEB] = False
    assert setting.room.ready() == 1
    setting.node.services.withdraws = False
    await setting.room.lifecycle.delete(EndpointReference(namespace="default", name="db"))
    assert (setting.room.ready(), len(setting.room.endpoints)) == (0, 2)


@in_fake_time
async def test_a_registration_has_rows_that_are_missing_written_again() -> None:
    setting = Setting()
    await setting.room.lifecycle.create(request("web"))
    setting.node.services.rows.clear()
    setting.room.compare(Revision(2))
    (before,) = setting.room.statuses()
    publishing = asyncio.create_task(setting.room.loops()["publications"]())
    await settle()
    (after,) = setting.room.statuses()
    assert (before.name, before.desired, before.pending, after.pending) == ("rows", 1, 1, 0)
    assert len(setting.node.services.rows) == 1
    publishing.cancel()


@in_fake_time
async def test_rows_that_are_not_withdrawn_yet_are_pending() -> None:
    setting = Setting()
    setting.rows.pending = 3
    assert [status.pending for status in setting.room.statuses()] == [3]


@in_fake_time
async def test_the_number_of_endpoints_is_measured() -> None:
    setting, metrics = Setting(), Metrics()
    setting.room.measure(metrics)
    await setting.room.lifecycle.create(request("web"))
    assert "cilia_endpoints 1.0" in metrics.prometheus().decode()


def test_sockets_and_map_are_given_back() -> None:
    setting = Setting()
    setting.room.close()
    assert setting.links.closed
    assert setting.table.closed


class FailingNode:
    """Kernel, node, ipcache and policy of an agent that can't bring a pod back."""

    def __init__(self) -> None:
        self.objects, self.opened, self.mtu_bytes = FakeObjects(), Closable(), 1450
        self.bus = self.pool = self.registration = self.gateways = self.reconciler = self.revisions = self
        self.tables = SimpleNamespace(endpoints=None)
        self.kernel = SimpleNamespace(links=self, readers=self, devices=self, blocks=None, objects=self.objects.loaded)

    async def run(self, function: Callable[..., Any], *_: Any) -> Any:
        return self.opened if function is PodLinks else pod(7).ifindex

    def write(self, _gateways: set[int]) -> None: ...

    def set_hosts(self, _gateways: set[int]) -> None: ...

    def claim(self, _addresses: Addresses) -> None:
        raise OSError(28, "no room")


async def test_links_and_map_are_given_back_where_a_pod_can_t_be_brought_back(tmp_path: Path) -> None:
    config, node = configured(tmp_path), FailingNode()
    PodStore(config).records.save(pod(7))
    store, rest = PodStore(config), cast(Any, node)
    with pytest.raises(OSError, match="no room"):
        await EndpointRoom.open(config, cast(Any, node.kernel), store, rest, rest, rest, lambda _: None)
    assert node.opened.closed
    assert node.objects.map(maps.ENDPOINTS).closed == 2


def test_a_store_has_what_a_former_agent_recorded(tmp_path: Path) -> None:
    first = PodStore(configured(tmp_path))
    assert (len(first.endpoints), first.gateways()) == (0, set())
    first.records.save(pod(7))
    first.records.save(replace(pod(8, "db"), ipv6="fd00:1::2", gateway_ipv6="fd00:1::1"))
    second = PodStore(configured(tmp_path))
    assert [each.id for each in second.endpoints] == [7, 8]
    assert second.gateways() == {number("10.1.0.1"), number("fd00:1::1")}
    assert (second.count(Identity(300)), second.count(Identity(1))) == (2, 0)


async def test_links_are_made_in_the_workers_thread() -> None:
    asked: list[tuple[str, tuple[Any, ...]]] = []

    class FakeWorker:
        async def run(self, function: Any, *arguments: Any) -> int:
            asked.append((function.__name__, arguments))
            return 11

    link: PodLink = link_of(pod(7), 1450)
    links = WorkerLinks(cast(PodLinks, _NamedLinks()), cast(Worker, FakeWorker()))
    assert await links.connect(link) == 11
    await links.disconnect("lxc7")
    assert await links.ifindex("lxc7") == 11
    assert asked == [("connect", (link,)), ("disconnect", ("lxc7",)), ("ifindex", ("lxc7",))]


class _NamedLinks:
    def connect(self) -> None: ...

    def disconnect(self) -> None: ...

    def ifindex(self) -> None: ...
