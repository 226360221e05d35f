"""A command's session: the way to a cluster, its tables and endpoints, and what it waits for."""

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cilia.bus import BusConfig
from cilia.commands import local_clusters, session
from cilia.commands.session import NoSuchEndpoint, Session, open_session, with_session
from cilia.contracts.flow_events import Flow, FlowBatch, FlowKind, FlowVerdict
from cilia.contracts.ids import EndpointId, NodeName
from cilia.contracts.tables import ENDPOINTS as ENDPOINT_TABLE
from cilia.contracts.tables import NODES as NODE_TABLE
from cilia.contracts.tables import Table
from cilia.errors import Unavailable
from cilia.table.publisher import TablePublisher
from tests.fakes.bus import Broker
from tests.fakes.clock import end, in_fake_time, now
from tests.unit.commands.samples import ENDPOINTS, NODE1, NODE2, NODES

NOWHERE = argparse.Namespace(nats=None, cluster=None)


@asynccontextmanager
async def published(
    broker: Broker, table: Table[Any, Any], rows: dict[Any, Any]
) -> AsyncIterator[TablePublisher[Any, Any]]:
    """Publish a table over the bus during the block."""
    owner = TablePublisher[Any, Any](broker.bus(), table, clock=now)
    owner.reset(rows, 5, 1)
    owner.lead()
    tasks = [asyncio.ensure_future(loop()) for loop in owner.loops().values()]
    await asyncio.sleep(0)
    try:
        yield owner
    finally:
        await end(*tasks)


@in_fake_time
async def test_a_table_is_read_whole_from_all_of_its_shards() -> None:
    broker = Broker()
    async with published(broker, ENDPOINT_TABLE, ENDPOINTS):
        assert await Session(broker.bus(), "test").read(ENDPOINT_TABLE) == ENDPOINTS


@in_fake_time
async def test_nodes_and_endpoints_come_in_the_order_of_their_names() -> None:
    broker = Broker()
    async with (
        published(broker, NODE_TABLE, dict(reversed(NODES.items()))),
        published(broker, ENDPOINT_TABLE, ENDPOINTS),
    ):
        here = Session(broker.bus(), "test")
        assert [node.name for node in await here.nodes()] == ["node1", "node2"]
        assert [endpoint.name for endpoint in await here.endpoints()] == ["probe", "db", "web"]


@in_fake_time
async def test_an_empty_table_is_no_error() -> None:
    broker = Broker()
    async with published(broker, NODE_TABLE, {}):
        assert await Session(broker.bus(), "test").nodes() == []


@in_fake_time
async def test_a_table_whose_owner_is_silent_is_given_up_after_five_seconds() -> None:
    broker = Broker()
    with pytest.raises(Unavailable, match="ipam is unavailable: no snapshot of nodes within 5 s"):
        await Session(broker.bus(), "test").read(NODE_TABLE)
    assert now() == 5.0
    assert broker.subscriptions == [], "nothing listens any more"


@in_fake_time
async def test_an_owner_that_comes_late_is_waited_for() -> None:
    broker = Broker()
    reading = asyncio.create_task(Session(broker.bus(), "test").read(NODE_TABLE))
    await asyncio.sleep(0.1)
    async with published(broker, NODE_TABLE, NODES):
        assert await reading == NODES


def test_a_table_that_takes_long_is_announced(capsys: pytest.CaptureFixture[str]) -> None:
    test_a_table_whose_owner_is_silent_is_given_up_after_five_seconds()
    assert capsys.readouterr().err == "waiting for the table of nodes\n"
    test_a_table_is_read_whole_from_all_of_its_shards()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "node", "number"),
    [
        ("shop/web", NODE1, 7),
        ("node1/7", NODE1, 7),
        ("probe", NODE1, 8),
        ("default/probe", NODE1, 8),
        ("node2/1", NODE2, 1),
    ],
)
def test_an_endpoint_is_found_by_either_of_its_names(name: str, node: NodeName, number: int) -> None:
    @in_fake_time
    async def find() -> None:
        broker = Broker()
        async with published(broker, ENDPOINT_TABLE, ENDPOINTS):
            found, reference = await Session(broker.bus(), "test").find_endpoint(name)
            assert (found, reference.id) == (node, EndpointId(number))

    find()


@in_fake_time
async def test_an_endpoint_that_is_not_there_is_named() -> None:
    broker = Broker()
    async with published(broker, ENDPOINT_TABLE, ENDPOINTS):
        with pytest.raises(NoSuchEndpoint, match="no endpoint 'shop/cart'; 'cilia endpoint list' names them"):
            await Session(broker.bus(), "test").find_endpoint("shop/cart")


def flow(number: int) -> Flow:
    return Flow(number, NODE1, FlowKind.DROP, FlowVerdict.DROPPED, "tcp", "10.0.0.1", "10.0.0.2")


@in_fake_time
async def test_messages_that_are_published_arrive_in_their_order() -> None:
    broker = Broker()
    heard: list[int] = []

    async def listen() -> None:
        here = Session(broker.bus(), "test")
        async for batch in here.listen(here.bus.subjects.flow(), FlowBatch):
            heard.extend(each.time_ns for each in batch.flows)

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0.1)
    other = broker.bus()
    for number in range(10):
        await other.publish(other.subjects.flow("node1"), msgspec.json.encode(FlowBatch(NODE1, (flow(number),))))
    await other.publish(other.subjects.shadow(), b"not a flow")
    await asyncio.sleep(0.1)
    assert heard == list(range(10))
    await end(listening)


@in_fake_time
async def test_a_reader_that_is_slow_holds_the_bus_back_and_loses_nothing() -> None:
    broker = Broker()
    here = Session(broker.bus(), "test")
    listening = here.listen(here.bus.subjects.flow(), FlowBatch)
    first = asyncio.ensure_future(anext(listening))
    await asyncio.sleep(0.1)

    async def publish() -> None:
        other = broker.bus()
        for number in range(200):
            await other.publish(other.subjects.flow("node1"), msgspec.json.encode(FlowBatch(NODE1, (flow(number),))))

    publishing = asyncio.create_task(publish())
    assert (await first).flows[0].time_ns == 0
    await asyncio.sleep(1)
    assert not publishing.done(), "a queue of 64 is full"
    rest = [(await anext(listening)).flows[0].time_ns for _ in range(199)]
    assert rest == list(range(1, 200))
    await publishing
    await listening.aclose()  # type: ignore[attr-defined]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Any, ...]]:
    """Record how sessions are opened, with two local clusters on this machine."""
    calls: list[tuple[Any, ...]] = []

    @asynccontextmanager
    async def connect(config: BusConfig, *, cluster: str, name: str) -> AsyncIterator[Any]:
        calls.append(("connect", config.urls, cluster, name))
        yield Broker().bus()
        calls.append(("close",))

    monkeypatch.setattr(session, "connect_bus", connect)
    monkeypatch.setattr(session, "enter", lambda path: calls.append(("enter", str(path))))
    monkeypatch.setattr(local_clusters, "STATE_DIRECTORY", tmp_path)
    monkeypatch.delenv("CILIA_CLUSTER", raising=False)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        state = {"name": name, "nats": f"nats://{name}:4222", "hub": f"cilia-{name}.hub"}
        (tmp_path / name / "cluster.json").write_bytes(msgspec.json.encode(state))
    return calls


async def visit(**options: Any) -> str:
    async with open_session(argparse.Namespace(**{**vars(NOWHERE), **options})) as here:
        return here.cluster


async def test_a_local_cluster_is_reached_from_the_namespace_of_its_bus(opened: list[tuple[Any, ...]]) -> None:
    assert await visit(cluster="two") == "two"
    assert opened == [
        ("enter", "/run/netns/cilia-two.hub"),
        ("connect", ("nats://two:4222",), "two", "cilia-cli"),
        ("close",),
    ]


async def test_the_environment_names_a_cluster_and_the_command_line_another(
    opened: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CILIA_CLUSTER", "one")
    assert await visit() == "one"
    assert await visit(cluster="two") == "two"


async def test_of_two_clusters_none_is_guessed(opened: list[tuple[Any, ...]]) -> None:
    with pytest.raises(local_clusters.Ambiguous, match="There are one, two"):
        await visit()
    assert opened == []


@pytest.mark.parametrize(("cluster", "expected"), [(None, "local"), ("shop", "shop")])
async def test_another_bus_is_reached_as_it_is_named(
    opened: list[tuple[Any, ...]], cluster: str | None, expected: str
) -> None:
    assert await visit(nats="nats://far:4222", cluster=cluster) == expected
    assert opened == [("connect", ("nats://far:4222",), expected, "cilia-cli"), ("close",)]


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3)])
def test_the_exit_code_is_what_a_command_returns(
    opened: list[tuple[Any, ...]], returned: int | None, code: int
) -> None:
    async def run(_: argparse.Namespace, here: Session) -> int | None:
        assert here.cluster == "one"
        return returned

    assert with_session(run)(argparse.Namespace(nats=None, cluster="one")) == code
    assert opened[-1] == ("close",)


def test_a_session_is_closed_though_its_command_fails(opened: list[tuple[Any, ...]]) -> None:
    async def run(_: argparse.Namespace, here: Session) -> None:
        raise Unavailable("policy", "no answer")

    with pytest.raises(Unavailable):
        with_session(run)(argparse.Namespace(nats=None, cluster="one"))
