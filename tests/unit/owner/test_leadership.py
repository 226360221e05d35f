"""Work of the elected replica: begins and ends with its leadership."""

import asyncio
from dataclasses import dataclass

import msgspec
import pytest

from cilia.contracts.keys import Keys
from cilia.contracts.tables import ONE_SHARD, Table
from cilia.errors import BadConfig, Unavailable
from cilia.owner.config import OwnerConfig
from cilia.owner.epoch import ensure_epoch
from cilia.owner.leadership import POLL_SECONDS, publish_while_elected, run_while_elected
from cilia.table.publisher import TablePublisher
from tests.fakes.bus import Broker
from tests.fakes.clock import end, in_fake_time, now
from tests.fakes.etcd import FakeEtcd

WORDS = Table[str, str]("words", "tests", str, str, lambda _: ONE_SHARD)


@dataclass
class Candidate:
    leading: bool = False


class Work:
    """Work of the elected replica; notes when it began and ended."""

    def __init__(self) -> None:
        self.log: list[tuple[str, float]] = []
        self.failure: Exception | None = None

    async def run(self) -> None:
        self.log.append(("begins", round(now(), 1)))
        try:
            await asyncio.sleep(1)
            if self.failure is not None:
                raise self.failure
            await asyncio.Event().wait()
        finally:
            self.log.append(("ends", round(now(), 1)))


@in_fake_time
async def test_work_begins_and_ends_with_the_leadership() -> None:
    candidate, work = Candidate(), Work()
    running = asyncio.create_task(run_while_elected(candidate, work.run))
    await asyncio.sleep(5)
    assert work.log == []
    candidate.leading = True
    await asyncio.sleep(5)
    candidate.leading = False
    await asyncio.sleep(5)
    assert [act for act, _ in work.log] == ["begins", "ends"]
    assert work.log[1][1] - work.log[0][1] == pytest.approx(5, abs=2 * POLL_SECONDS)
    candidate.leading = True
    await asyncio.sleep(1)
    assert [act for act, _ in work.log] == ["begins", "ends", "begins"]
    await end(running)
    assert work.log[-1][0] == "ends"


@in_fake_time
async def test_work_that_meets_an_absence_begins_again_after_a_pause() -> None:
    candidate, work = Candidate(leading=True), Work()
    work.failure = Unavailable("etcd", "gone")
    running = asyncio.create_task(run_while_elected(candidate, work.run))
    await asyncio.sleep(20)
    assert 4 <= [act for act, _ in work.log].count("begins") <= 20
    work.failure = None
    await asyncio.sleep(10)
    assert work.log[-1][0] == "begins"
    await end(running)


@in_fake_time
async def test_any_other_failure_of_the_work_is_the_loops() -> None:
    candidate, work = Candidate(leading=True), Work()
    work.failure = ValueError("a bug")
    with pytest.raises(ValueError, match="a bug"):
        await run_while_elected(candidate, work.run)


@in_fake_time
async def test_tables_are_published_while_elected() -> None:
    candidate, publisher = Candidate(), TablePublisher(Broker().bus(), WORDS)
    running = asyncio.create_task(publish_while_elected(candidate, (publisher,)))
    seen = []
    for leading in (False, True, True, False):
        candidate.leading = leading
        await asyncio.sleep(2 * POLL_SECONDS)
        seen.append(publisher.changelog.leading)
    assert seen == [False, True, True, False]
    await end(running)


@in_fake_time
async def test_the_epoch_is_the_time_at_which_the_first_asked_and_stays() -> None:
    etcd, keys = FakeEtcd(), Keys("test")
    assert await ensure_epoch(etcd, keys, lambda: 1700.9) == 1700
    assert await ensure_epoch(etcd, keys, lambda: 1800.0) == 1700
    assert etcd.value(keys.epoch) == b"1700"


@in_fake_time
async def test_of_two_that_ask_first_at_once_both_get_the_same_epoch() -> None:
    etcd, keys = FakeEtcd(), Keys("test")
    etcd.before_txn.append(lambda: etcd.set(keys.epoch, b"1699"))
    assert await ensure_epoch(etcd, keys, lambda: 1700.0) == 1699


@pytest.mark.parametrize("field", ["concurrency", "election_seconds"])
def test_settings_that_must_be_above_zero_are_refused_by_name(field: str) -> None:
    with pytest.raises(BadConfig, match=f"'{field}' = 0 .*must be above 0"):
        msgspec.structs.replace(OwnerConfig(), **{field: 0})
