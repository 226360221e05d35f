"""Status: collected from rooms, with a state that follows from errors, age and tables."""

from collections.abc import Iterable
from typing import cast

import pytest

from cilia.contracts.agent import AgentState, LoopName, LoopStatus, TableStatus
from cilia.contracts.ids import NodeName
from cilia.metrics import Metrics
from services.agent.api.status import STARTING_SECONDS, Status, rss_bytes, state_of
from services.agent.config import Config
from services.agent.endpoint.room import EndpointRoom
from services.agent.endpoint.store import Endpoints
from services.agent.node.room import NodeRoom
from services.agent.room import Room
from tests.unit.agent.endpoint.test_store import pod
from tests.unit.agent.node.test_pool import granted


class FakeRoom(Room):
    def __init__(self, name: str, *errors: str) -> None:
        self._name = name
        self._errors = errors

    def statuses(self) -> Iterable[LoopStatus]:
        yield LoopStatus(LoopName(self._name), 1, 0, 0)

    def errors(self) -> Iterable[str]:
        return self._errors

    def measure(self, metrics: Metrics) -> None:
        metrics.gauge(self._name, "of a fake", lambda: 5)


class FakeNode(FakeRoom):
    def __init__(self, *, complete: bool = True) -> None:
        super().__init__("registration")
        self.pool = granted("10.1.0.0/28", versions=[4])
        self.bus = self
        self.connected = True
        self._complete = complete

    def table_statuses(self) -> tuple[TableStatus, ...]:
        return (table("nodes"), table("endpoints", complete=self._complete))


class FakeEndpoints(FakeRoom):
    def __init__(self) -> None:
        super().__init__("rows")
        self.endpoints = Endpoints([pod(7), pod(8, "db")])

    def ready(self) -> int:
        return 1


def table(name: str, *, complete: bool = True) -> TableStatus:
    return TableStatus(name=name, complete=complete, shards=1, rows=3, sequence=9, resyncs=0)


def status(*rooms: Room, age: float = 60.0, complete: bool = True) -> Status:
    times = iter([0.0, age])
    node, endpoints = FakeNode(complete=complete), FakeEndpoints()
    return Status(
        Config(node=NodeName("node1"), ipv4="192.0.2.1", ipv6="2001:db8::1"),
        cast(NodeRoom, node),
        cast(EndpointRoom, endpoints),
        [node, endpoints, *rooms],
        missing_features=("tcx",),
        clock=lambda: next(times),
    )


@pytest.mark.parametrize(
    ("degraded", "uptime", "complete", "state"),
    [
        ("", 60, True, AgentState.READY),
        ("", 60, False, AgentState.READY),
        ("", 1, True, AgentState.READY),
        ("", 1, False, AgentState.STARTING),
        ("the bus is away", 1, True, AgentState.STARTING),
        ("the bus is away", 60, True, AgentState.DEGRADED),
        ("the bus is away", STARTING_SECONDS, True, AgentState.DEGRADED),
    ],
)
def test_the_state_follows_from_errors_age_and_tables(
    degraded: str, uptime: float, complete: bool, state: AgentState
) -> None:
    assert state_of(degraded, uptime, (table("nodes"), table("policies", complete=complete))) is state


def test_a_status_tells_of_every_room() -> None:
    found = status(FakeRoom("routes"), FakeRoom("policy")).status()
    assert [loop.name for loop in found.loops] == ["registration", "rows", "routes", "policy"]
    assert [each.name for each in found.tables] == ["nodes", "endpoints"]
    assert (found.state, found.uptime_seconds, found.bus_connected) == (AgentState.READY, 60.0, True)
    assert (found.endpoints, found.endpoints_ready, found.pod_cidrs) == (2, 1, ("10.1.0.0/28",))
    assert (found.node, found.ipv4, found.ipv6) == ("node1", "192.0.2.1", "2001:db8::1")
    assert found.missing_features == ("tcx",)
    assert found.rss_bytes > 1_000_000


def test_errors_of_rooms_are_joined_and_empty_ones_count_for_nothing() -> None:
    degraded = status(FakeRoom("routes", "", "no route"), FakeRoom("policy"), FakeRoom("ipcache", "full"))
    assert degraded.degraded() == "no route; full"
    assert degraded.status().state is AgentState.DEGRADED
    assert status(FakeRoom("routes", "")).degraded() == ""


def test_metrics_are_those_of_the_rooms_and_of_the_process() -> None:
    metrics = Metrics()
    status(FakeRoom("routes")).measure(metrics)
    text = metrics.prometheus().decode()
    for name in ("registration", "rows", "routes"):
        assert f"cilia_{name} 5.0" in text
    assert "cilia_resident_memory_bytes" in text
    assert rss_bytes() > 0


def test_a_room_that_has_nothing_to_give_gives_nothing() -> None:
    room = Room()
    assert (dict(room.loops()), tuple(room.statuses()), tuple(room.errors())) == ({}, (), ())
    assert dict(room.map_entries()) == {}
    room.measure(Metrics())
    room.close()
