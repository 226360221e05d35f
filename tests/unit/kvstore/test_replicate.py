"""Replication of a fake etcd: everything first, then each change; everything again if it must."""

import asyncio
import random
from contextlib import aclosing

import pytest

from cilia.errors import Unavailable
from cilia.kvstore import Changes, Reset, replicate
from tests.fakes.clock import end, in_fake_time, now, settle
from tests.fakes.etcd import FakeEtcd


@in_fake_time
async def test_everything_comes_as_of_one_revision_and_then_each_change() -> None:
    etcd = FakeEtcd()
    etcd.set("r/a/1", b"x")
    etcd.set("r/z/1", b"nobody asked for it")
    last = etcd.set("r/b/1", b"y")
    async with aclosing(replicate(etcd, "r/", ("r/a/", "r/b/"))) as steps:
        reset = await anext(steps)
        assert isinstance(reset, Reset)
        assert ([each.key for each in reset.records], reset.revision) == (["r/a/1", "r/b/1"], last)
        etcd.remove("r/a/1")
        etcd.set("r/z/2", b"")
        etcd.set("r/b/1", b"z")
        found = [await anext(steps) for _ in range(3)]
        changes = [step for step in found if isinstance(step, Changes)]
        assert [(each.previous - last, each.revision - last) for each in changes] == [(0, 1), (1, 2), (2, 3)]
        assert [[(e.key, e.removed) for e in each.events] for each in changes] == [
            [("r/a/1", True)],
            [],
            [("r/b/1", False)],
        ]


@in_fake_time
async def test_an_etcd_that_does_not_answer_the_first_read_is_an_error_and_later_is_waited_for() -> None:
    etcd = FakeEtcd()
    etcd.away = True
    with pytest.raises(Unavailable):
        await anext(replicate(etcd, "r/", ("r/",)))
    etcd.away = False
    async with aclosing(replicate(etcd, "r/", ("r/",))) as steps:
        await anext(steps)
        etcd.set("r/1", b"")
        etcd.forget_history()
        etcd.away = True
        step = asyncio.ensure_future(anext(steps))
        await asyncio.sleep(30)
        assert not step.done()
        etcd.away = False
        reset = await step
        assert isinstance(reset, Reset)
        assert [each.key for each in reset.records] == ["r/1"]
        assert now() < 31


@in_fake_time
async def test_one_that_lags_behind_the_history_gets_everything_again() -> None:
    etcd = FakeEtcd()
    etcd.set("r/gone", b"")
    async with aclosing(replicate(etcd, "r/", ("r/",))) as steps:
        await anext(steps)
        etcd.remove("r/gone")
        etcd.set("r/1", b"")
        etcd.forget_history()
        again = await anext(steps)
        assert isinstance(again, Reset)
        assert [each.key for each in again.records] == ["r/1"]


@in_fake_time
async def test_a_replica_that_folds_the_steps_has_etcds_state_whatever_happens() -> None:
    etcd, chance, state = FakeEtcd(), random.Random(4), dict[str, bytes]()

    async def follow() -> None:
        async with aclosing(replicate(etcd, "r/", ("r/a/", "r/b/"))) as steps:
            async for step in steps:
                match step:
                    case Reset(records=records):
                        state.clear()
                        state.update({each.key: each.value for each in records})
                    case Changes(events=events):
                        for event in events:
                            if event.removed:
                                del state[event.key]
                            else:
                                state[event.key] = event.record.value
                if chance.random() < 0.3:
                    await asyncio.sleep(0.1)  # it lags

    following = asyncio.create_task(follow())
    await settle()
    for number in range(500):
        key = f"r/{chance.choice('abc')}/{chance.randrange(5)}"
        if chance.random() < 0.3:
            etcd.remove(key)
        else:
            etcd.set(key, str(number).encode())
        if chance.random() < 0.02:
            etcd.forget_history()
        if chance.random() < 0.2:
            await asyncio.sleep(0.05)
    await asyncio.sleep(100)
    assert state == {key: etcd.value(key) for key in etcd.keys("r/") if not key.startswith("r/c/")}
    await end(following)
