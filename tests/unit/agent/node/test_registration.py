"""Registration over a bus that answers to order, in fake time."""

import asyncio
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cilia.contracts.ids import Incarnation, Revision
from cilia.contracts.ipam import Granted, GrowBlocks, RegisterNode
from cilia.contracts.messages import Empty, Problem, ProblemCode
from cilia.errors import Refused, Unavailable
from services.agent.errors import PoolExhausted
from services.agent.node.pool import AddressPool
from services.agent.node.registration import Kept, Registration, read_membership, write_membership
from tests.fakes.clock import in_fake_time, now, settle
from tests.unit.agent.node.test_membership import AWAY, N1, REMOVED, answer
from tests.unit.agent.scripted_bus import ScriptedBus

OWN = RegisterNode(N1, "192.0.2.1", pool="four", pool6="six")


class Ipam:
    """The ipam service: registers, hears heartbeats, grants blocks."""

    def __init__(self, bus: ScriptedBus) -> None:
        self.blocks: Iterator[str] = iter(["10.2.0.0/28", "10.3.0.0/28"])
        self.problem: Exception | None = None
        self.beat: Exception | None = None
        self.incarnations = 0
        bus.answers = {"ipam.register": self._register, "ipam.heartbeat": self._beat, "ipam.grow": self._grow}

    def _register(self, _request: RegisterNode) -> Any:
        if self.problem is not None:
            return self.problem
        self.incarnations += 1
        return answer(stale_seconds=30, incarnation=self.incarnations)

    def _beat(self, _beat: object) -> Any:
        beat, self.beat = self.beat, None
        return beat or Empty()

    def _grow(self, _request: GrowBlocks) -> Any:
        block = next(self.blocks, None)
        return Granted(block, Revision(2)) if block else Refused(Problem(ProblemCode.EXHAUSTED, "the pool is used up"))


class Setting:
    """A node that registers, its ipam and its bus."""

    def __init__(self, directory: Path) -> None:
        self.bus = ScriptedBus()
        self.ipam = Ipam(self.bus)
        self.pool = AddressPool([4])
        self.registered_at: list[float] = []
        self.file = directory / "membership.json"
        self.registration = Registration(self.bus.as_bus(), OWN, self.pool, self.file, self._registered)
        self.tasks: list[asyncio.Task[None]] = []

    async def _registered(self, _revision: Revision) -> None:
        self.registered_at.append(now())

    def start(self, *loops: Callable[[], Any]) -> None:
        self.tasks += [asyncio.create_task(loop()) for loop in loops or (self.registration.run,)]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@in_fake_time
async def test_a_node_registers_keeps_its_incarnation_and_gets_its_blocks(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    assert not setting.registration.is_registered
    setting.start()
    assert await setting.registration.incarnation() == 1
    assert setting.registration.is_registered
    assert setting.pool.blocks == ("10.1.0.0/28",)
    assert read_membership(setting.file) == Kept(Incarnation(1), ("10.1.0.0/28",))
    assert (setting.registration.last_error, setting.registered_at) == ("", [0])
    await setting.stop()


@in_fake_time
async def test_heartbeats_come_at_once_and_thrice_before_the_node_would_be_stale(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.start()
    await asyncio.sleep(60)
    beats = [at for call, at in zip(setting.bus.calls(), setting.bus.asked_at, strict=True) if call == "ipam.heartbeat"]
    assert 6 <= len(beats) <= 9
    assert all(8 <= late - early <= 10 for early, late in pairwise(beats))
    await setting.stop()


@in_fake_time
async def test_a_node_that_was_removed_registers_anew_and_all_hear_of_it(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.start()
    await asyncio.sleep(1)
    setting.ipam.beat = REMOVED
    await asyncio.sleep(20)
    assert await setting.registration.incarnation() == 2
    assert len(setting.registered_at) == 2
    again = [message for call, message in setting.bus.asked if call == "ipam.register"]
    assert [message.incarnation for message in again] == [0, 1]
    await setting.stop()


@in_fake_time
async def test_heartbeats_that_are_lost_are_no_reason_to_register(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.start()
    await asyncio.sleep(1)
    setting.bus.answers["ipam.heartbeat"] = lambda _: AWAY
    await asyncio.sleep(3600)
    assert setting.registration.is_registered
    assert setting.registration.last_error == str(AWAY)
    setting.bus.answers["ipam.heartbeat"] = lambda _: Empty()
    await asyncio.sleep(12)
    assert (setting.registration.last_error, len(setting.registered_at)) == ("", 1)
    await setting.stop()


@in_fake_time
async def test_a_heartbeat_follows_the_return_of_the_bus_at_once(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.start()
    await asyncio.sleep(1)
    beats = setting.bus.calls().count("ipam.heartbeat")
    for listener in setting.bus.listeners:
        listener()
    await settle()
    assert setting.bus.calls().count("ipam.heartbeat") == beats + 1
    await setting.stop()


@in_fake_time
async def test_a_block_that_is_anothers_now_is_not_allocated_from(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.start()
    await setting.registration.incarnation()
    for _ in range(14):
        await setting.registration.addresses()
    setting.ipam.beat = REMOVED
    await asyncio.sleep(20)
    again = [message for call, message in setting.bus.asked if call == "ipam.register"][-1]
    assert again.blocks == ("10.1.0.0/28", "10.2.0.0/28")  # it says what it had, and didn't get all
    assert setting.pool.blocks == ("10.1.0.0/28",)
    assert read_membership(setting.file) == Kept(Incarnation(2), ("10.1.0.0/28",))
    await setting.stop()


@in_fake_time
async def test_while_the_bus_is_away_nothing_is_asked_and_its_return_is_answered_at_once(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.ipam.problem = AWAY
    setting.bus.connected, setting.bus.returns_after = False, 500.0
    setting.start()
    await asyncio.sleep(400)
    assert setting.bus.calls() == ["ipam.register"]
    setting.ipam.problem = None
    await setting.registration.incarnation()
    assert 500 < now() < 500.3
    await setting.stop()


@in_fake_time
async def test_refusals_are_retried_and_the_latest_is_shown(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.ipam.problem = Refused(Problem(ProblemCode.CONFLICT, "another node has this name"))
    setting.start()
    await asyncio.sleep(60)
    assert "another node has this name" in setting.registration.last_error
    assert 8 <= len(setting.bus.asked) <= 20
    setting.ipam.problem = None
    await asyncio.sleep(11)
    assert setting.registration.is_registered
    await setting.stop()


@in_fake_time
async def test_a_restarted_agent_shows_the_incarnation_and_the_blocks_that_it_had(tmp_path: Path) -> None:
    write_membership(tmp_path / "membership.json", Kept(Incarnation(0xABC), ("10.9.0.0/28",)))
    setting = Setting(tmp_path)
    setting.start()
    await setting.registration.incarnation()
    asked = setting.bus.asked[0][1]
    assert (asked.incarnation, asked.blocks) == (0xABC, ("10.9.0.0/28",))
    await setting.stop()


@pytest.mark.parametrize("text", ["", "{", "[]", None])
def test_a_membership_that_cannot_be_read_is_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "membership.json").write_text(text)
    assert read_membership(tmp_path / "membership.json") == Kept()


@in_fake_time
async def test_addresses_come_from_a_new_block_where_none_is_left(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.start()
    await setting.registration.incarnation()
    given = [await setting.registration.addresses() for _ in range(30)]
    assert len(set(given)) == 30
    asked = [message for call, message in setting.bus.asked if call == "ipam.grow"]
    assert [(message.incarnation, message.pool) for message in asked] == [(1, "four"), (1, "four")]
    await setting.stop()


@in_fake_time
async def test_where_ipam_has_no_block_the_caller_hears_why(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.ipam.blocks = iter(())
    setting.start()
    await setting.registration.incarnation()
    for _ in range(13):
        await setting.registration.addresses()
    with pytest.raises(PoolExhausted, match="the pool is used up"):
        await setting.registration.addresses()
    await setting.stop()


@in_fake_time
async def test_callers_at_once_share_one_new_block(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    await settle()
    setting.start()
    await setting.registration.incarnation()
    for _ in range(13):
        await setting.registration.addresses()
    given = await asyncio.gather(*(setting.registration.addresses() for _ in range(10)))
    assert len(set(given)) == 10
    assert setting.bus.calls().count("ipam.grow") == 1
    await setting.stop()


@in_fake_time
async def test_another_block_is_asked_for_before_the_last_address_is_taken(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.start(setting.registration.run, setting.registration.request_blocks)
    await setting.registration.incarnation()
    for _ in range(6):
        await setting.registration.addresses()
    await settle()
    assert setting.pool.blocks == ("10.1.0.0/28", "10.2.0.0/28")
    await setting.stop()


@in_fake_time
async def test_a_block_that_is_refused_is_not_asked_for_again_at_once(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.bus.answers["ipam.grow"] = lambda _: Unavailable("ipam", "no answer")
    setting.start(setting.registration.run, setting.registration.request_blocks)
    await setting.registration.incarnation()
    for _ in range(9):
        await setting.registration.addresses()
        await settle()
    assert setting.bus.calls().count("ipam.grow") == 1
    await setting.stop()
