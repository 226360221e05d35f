"""Registration over a bus that answers to order, in fake time."""

import asyncio
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cilia.contracts.ids import LeaseId, Revision
from cilia.contracts.ipam import Granted, GrowBlocks, RegisterNode
from cilia.contracts.messages import Empty, Problem, ProblemCode
from cilia.errors import Refused, Unavailable
from services.agent.errors import PoolExhausted
from services.agent.node.pool import AddressPool
from services.agent.node.registration import Registration, read_lease, write_lease
from tests.fakes.clock import in_fake_time, now, settle
from tests.unit.agent.node.test_membership import AWAY, EXPIRED, N1, answer
from tests.unit.agent.scripted_bus import ScriptedBus

OWN = RegisterNode(N1, "192.0.2.1", pool="four", pool6="six")


class Ipam:
    """The ipam service: registers, hears heartbeats, grants blocks."""

    def __init__(self, bus: ScriptedBus) -> None:
        self.blocks: Iterator[str] = iter(["10.2.0.0/28", "10.3.0.0/28"])
        self.problem: Exception | None = None
        self.beat: Exception | None = None
        self.leases = 0
        bus.answers = {"ipam.register": self._register, "ipam.heartbeat": self._beat, "ipam.grow": self._grow}

    def _register(self, _request: RegisterNode) -> Any:
        if self.problem is not None:
            return self.problem
        self.leases += 1
        return answer(ttl_seconds=30, lease=self.leases)

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
        self.lease_file = directory / "lease"
        self.registration = Registration(self.bus.as_bus(), OWN, self.pool, self.lease_file, self._registered)
        self.tasks: list[asyncio.Task[None]] = []

    async def _registered(self) -> None:
        self.registered_at.append(now())

    def start(self, *loops: Callable[[], Any]) -> None:
        self.tasks += [asyncio.create_task(loop()) for loop in loops or (self.registration.run,)]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@in_fake_time
async def test_a_node_registers_keeps_its_lease_and_gets_its_blocks(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    assert not setting.registration.is_registered
    setting.start()
    assert await setting.registration.lease() == 1
    assert setting.registration.is_registered
    assert setting.pool.blocks == ("10.1.0.0/28",)
    assert read_lease(setting.lease_file) == 1
    assert (setting.registration.last_error, setting.registered_at) == ("", [0])
    await setting.stop()


@in_fake_time
async def test_heartbeats_come_each_third_of_the_leases_life(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.start()
    await asyncio.sleep(60)
    beats = [at for call, at in zip(setting.bus.calls(), setting.bus.asked_at, strict=True) if call == "ipam.heartbeat"]
    assert 5 <= len(beats) <= 8
    assert all(8 <= late - early <= 10 for early, late in pairwise(beats))
    await setting.stop()


@in_fake_time
async def test_an_expired_lease_is_registered_anew_and_all_hear_of_it(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.start()
    await asyncio.sleep(1)
    setting.ipam.beat = EXPIRED
    await asyncio.sleep(20)
    assert await setting.registration.lease() == 2
    assert len(setting.registered_at) == 2
    again = [message for call, message in setting.bus.asked if call == "ipam.register"]
    assert [message.lease for message in again] == [0, 1]
    await setting.stop()


@in_fake_time
async def test_a_heartbeat_that_is_lost_is_no_reason_to_register(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.start()
    await asyncio.sleep(1)
    setting.ipam.beat = AWAY
    await asyncio.sleep(12)
    assert setting.registration.is_registered
    assert setting.registration.last_error == str(AWAY)
    await asyncio.sleep(12)
    assert (setting.registration.last_error, len(setting.registered_at)) == ("", 1)
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
    await setting.registration.lease()
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
async def test_a_restarted_agent_shows_the_lease_that_it_had(tmp_path: Path) -> None:
    write_lease(tmp_path / "lease", LeaseId(0xABC))
    setting = Setting(tmp_path)
    setting.start()
    await setting.registration.lease()
    assert setting.bus.asked[0][1].lease == 0xABC
    await setting.stop()


@pytest.mark.parametrize("text", ["", "no number", None])
def test_a_lease_that_cannot_be_read_is_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "lease").write_text(text)
    assert read_lease(tmp_path / "lease") == 0


@in_fake_time
async def test_addresses_come_from_a_new_block_where_none_is_left(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.start()
    await setting.registration.lease()
    given = [await setting.registration.addresses() for _ in range(30)]
    assert len(set(given)) == 30
    asked = [message for call, message in setting.bus.asked if call == "ipam.grow"]
    assert [(message.lease, message.pool) for message in asked] == [(1, "four"), (1, "four")]
    await setting.stop()


@in_fake_time
async def test_where_ipam_has_no_block_the_caller_hears_why(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.ipam.blocks = iter(())
    setting.start()
    await setting.registration.lease()
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
    await setting.registration.lease()
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
    await setting.registration.lease()
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
    await setting.registration.lease()
    for _ in range(9):
        await setting.registration.addresses()
        await settle()
    assert setting.bus.calls().count("ipam.grow") == 1
    await setting.stop()
