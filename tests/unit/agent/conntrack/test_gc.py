"""Flows are forgotten after their lifetime, and soon when their pod is gone."""

import asyncio
from typing import cast

import pytest

from cilia.abi import maps
from cilia.abi.enums import CtState, TcpFlag
from cilia.abi.structs import Ct4Key, Ct6Key, CtEntry, CtSide
from cilia.datapath.clock import TICKS_PER_SECOND
from cilia.datapath.errors import MapError
from services.agent.address import number, packed
from services.agent.config import TimeoutConfig
from services.agent.conntrack import gc as module
from services.agent.conntrack.gc import Conntrack, Space, is_expired, lifetime_seconds
from services.agent.conntrack.quota import FlowQuota, SweepTally
from tests.unit.agent.loops import running, until
from tests.unit.agent.maps import FakeObjects

TIMEOUTS = TimeoutConfig()
FIN, SYN, RST, ACK = TcpFlag.FIN, TcpFlag.SYN, TcpFlag.RST, TcpFlag.ACK


def flow(
    protocol: int = 6,
    flags: tuple[int, int] = (0, 0),
    last_seen: int = 1000,
    state: int = 0,
    endpoint: int = 0,
    born: int = 0,
) -> tuple[int, CtEntry]:
    sides = tuple(
        CtSide(packets, 60, 0, 0, 0, 0, bytes(6), each, 0, 0) for packets, each in zip((1, 0), flags, strict=True)
    )
    return (
        protocol,
        CtEntry(1, (1, 0), (0, 0), (300, 301), last_seen, 0, 0, endpoint, 0, state, 0, 0, 1, born, (0, 0), sides),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("protocol", "flags", "state", "seconds"),
    [
        (6, (SYN, 0), 0, 60),
        (6, (SYN, SYN | ACK), 0, 60),
        (6, (SYN | ACK, SYN | ACK), 0, 8000),
        (6, (SYN | ACK | FIN, SYN | ACK), CtState.ENDED_0, 8000),
        (6, (SYN | ACK | FIN, SYN | ACK | FIN), CtState.ENDING, 8000),
        (6, (SYN | ACK | FIN, SYN | ACK | FIN), CtState.ENDED, 10),
        (6, (SYN | ACK, SYN | ACK | RST), 0, 8000),
        (6, (SYN | ACK, SYN | ACK | RST), CtState.RESET, 10),
        (6, (SYN, 0), CtState.RESET | CtState.DENIED, 10),
        (6, (SYN, 0), CtState.DENIED, 8000),
        (17, (0, 0), CtState.DENIED, 8000),
        (17, (0, 0), 0, 60),
        (1, (0, 0), 0, 60),
    ],
)
def test_lifetimes_follow_the_state_of_the_connection(
    protocol: int, flags: tuple[int, int], state: int, seconds: int
) -> None:
    assert lifetime_seconds(*flow(protocol, flags, state=state), TIMEOUTS) == seconds


@pytest.mark.parametrize(
    ("protocol", "flags", "space", "seconds"),
    [
        (6, (SYN | ACK, SYN | ACK), Space.AMPLE, TIMEOUTS.tcp_ample_seconds),
        (6, (SYN | ACK, SYN | ACK), Space.CROWDED, 8000),
        (6, (SYN, 0), Space.CROWDED, 5),
        (17, (0, 0), Space.AMPLE, 60),
        (17, (0, 0), Space.CROWDED, 5),
    ],
)
def test_lifetimes_follow_the_space_that_there_is(
    protocol: int, flags: tuple[int, int], space: Space, seconds: int
) -> None:
    assert lifetime_seconds(*flow(protocol, flags), TIMEOUTS, space) == seconds


def test_a_flow_expires_after_its_lifetime_and_not_before() -> None:
    edge = 1000 + 60 * TICKS_PER_SECOND
    assert not is_expired(*flow(17), edge, TIMEOUTS)
    assert is_expired(*flow(17), edge + 1, TIMEOUTS)


def test_a_clock_that_wrapped_is_no_reason_to_forget_a_flow() -> None:
    assert not is_expired(*flow(17, last_seen=2**32 - 5), 5, TIMEOUTS)


def test_a_flow_seen_after_our_reading_of_the_clock_is_alive() -> None:
    assert not is_expired(*flow(17, last_seen=1001), 1000, TIMEOUTS)


POD, OTHER, WORLD = (number(address) for address in ("10.1.0.5", "10.1.0.6", "198.51.100.7"))
POD6, WORLD6 = number("fd00::5"), number("2001:db8::7")
UDP = 17


class Quota:
    """Quota whose crowded shares the test names; it keeps what the sweeps told."""

    def __init__(self) -> None:
        self.crowded: frozenset[int] = frozenset()
        self.ended: list[SweepTally] = []

    def begin(self) -> SweepTally:
        return SweepTally(len(self.ended) + 1, {}, (0, 0))

    def end(self, tally: SweepTally, now_ticks: int) -> None:
        self.ended.append(tally)


class Table:
    """Both tables of flows, and a clock that the test moves, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        objects = FakeObjects()
        self.quota = Quota()
        self.gc = Conntrack(
            objects.loaded, cast(FlowQuota, self.quota), TIMEOUTS, 30.0, lambda: int(self.now * TICKS_PER_SECOND)
        )
        self.ct4, self.ct6 = objects.map(maps.CT4), objects.map(maps.CT6)

    def enter(self, *ends: int, port: int = 5000, endpoint: int = 0, born: int = 0) -> None:
        """Enter a flow of UDP that was seen now."""
        entry = flow(UDP, last_seen=int(self.now * TICKS_PER_SECOND), endpoint=endpoint, born=born)[1]
        low, high = sorted(ends)
        if low >> 32 == 0xFFFF:
            self.ct4.held[Ct4Key((low & 0xFFFF_FFFF, high & 0xFFFF_FFFF), (53, port), UDP)] = entry
        else:
            self.ct6.held[Ct6Key((packed(low), packed(high)), (53, port), UDP)] = entry


@pytest.fixture
def table() -> Table:
    return Table()


async def test_a_sweep_forgets_what_idled_too_long_in_both_families(table: Table) -> None:
    table.enter(POD, WORLD)
    table.enter(POD6, WORLD6)
    table.now += 61
    table.enter(POD, WORLD, port=5001)
    await table.gc.sweep()
    assert [key.port for key in table.ct4.held] == [(53, 5001)]
    assert table.ct6.held == {}
    assert (table.gc.counters.removed, table.gc.counters.sweeps) == (2, 1)
    assert (table.gc.found, table.gc.flows) == ({"cilia_ct4": 2, "cilia_ct6": 1}, 3)


async def test_a_sweep_tells_of_each_share_what_it_found_and_what_it_removed(table: Table) -> None:
    table.enter(POD, WORLD, endpoint=7)
    table.enter(POD, WORLD, port=5001, endpoint=7, born=1)
    table.enter(POD6, WORLD6, endpoint=7)
    table.gc.purge(POD6)
    await table.gc.sweep()
    (tally,) = table.quota.ended
    assert tally.found == {7 * 4 + 2: 1, 7 * 4 + 3: 1}
    assert tally.removed == {7 * 4 + 3: 1}


async def test_unanswered_flows_of_an_endpoint_that_holds_its_share_go_soon(table: Table) -> None:
    table.enter(POD, WORLD, endpoint=7)
    table.enter(OTHER, WORLD, endpoint=8)
    table.quota.crowded = frozenset({7 * 4 + 2})
    table.now += TIMEOUTS.crowded_seconds + 1
    await table.gc.sweep()
    assert [entry.endpoint for entry in table.ct4.held.values()] == [8]


async def test_flows_of_a_pod_that_is_gone_are_forgotten_whichever_end_it_was(table: Table) -> None:
    table.enter(POD, WORLD)
    table.enter(number("10.0.0.1"), POD)
    table.enter(OTHER, WORLD)
    table.enter(POD6, WORLD6)
    table.gc.purge(POD)
    await table.gc.sweep()
    assert len(table.ct4.held) == len(table.ct6.held) == 1
    table.gc.purge(POD6)
    await table.gc.sweep()
    assert table.ct6.held == {}


async def test_a_purge_concerns_one_sweep_only(table: Table) -> None:
    table.gc.purge(POD)
    await table.gc.sweep()
    table.enter(POD, WORLD)
    await table.gc.sweep()
    assert len(table.ct4.held) == 1


async def test_the_loop_sweeps_soon_after_a_purge_and_goes_on_after_a_refusal(
    table: Table, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "GATHER_SECONDS", 0.0)
    table.ct4.refusals = 1
    async with running(table.gc.run):
        table.gc.purge(POD)
        await until(lambda: "the sweep of flows ended early" in caplog.text)
        table.enter(OTHER, WORLD)
        table.gc.purge(OTHER)
        await until(lambda: not table.ct4.held)


async def test_a_purge_whose_sweep_was_refused_is_made_good_by_the_next(table: Table) -> None:
    table.enter(POD, WORLD)
    table.gc.purge(POD)
    table.ct4.refusals = 1
    with pytest.raises(MapError):
        await table.gc.sweep()
    await table.gc.sweep()
    assert table.ct4.held == {}


async def test_large_tables_are_swept_in_steps_between_which_others_run(table: Table) -> None:
    for port in range(3 * module.STEP):
        table.enter(POD, WORLD, port=port)
    turns = [0]

    async def other() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    async with running(other):
        await table.gc.sweep()
    assert turns[0] >= 3
