"""Group commit without etcd: which transactions go together, and what becomes of each."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cilia.errors import Unavailable
from cilia.kvstore import (
    KvstoreError,
    LeaseNotFound,
    Limits,
    TransactionTooLarge,
    Txn,
    absent,
    absent_prefix,
    created_at,
    delete,
    delete_prefix,
    get,
    put,
    value_is,
)
from cilia.kvstore.group_commit import GroupCommit
from cilia.kvstore.schema import message
from tests.fakes.clock import end, in_fake_time

LIMITS = Limits(operations=20, size_bytes=10_000)


class Line:
    """A line to etcd of a second's delay, which notes keys and refuses what it is told to."""

    def __init__(self) -> None:
        self.groups: list[list[list[str]]] = []
        self.refused_keys: set[str] = set()
        self.broken = False
        self.revision = 0

    async def send(self, request: Any) -> Any:
        nested = [op.request_txn for op in request.success if op.HasField("request_txn")] or [request]
        group = [[op.request_put.key.decode() for op in each.success if op.HasField("request_put")] for each in nested]
        self.groups.append(group)
        await asyncio.sleep(1)
        if self.broken:
            raise Unavailable("etcd", "gone")
        if self.refused_keys.intersection(key for keys in group for key in keys):
            raise LeaseNotFound(7)
        self.revision += 1
        parts = [message("TxnResponse")(succeeded=True) for _ in nested]
        if nested[0] is request:
            parts[0].header.revision = self.revision
            return parts[0]
        outer = message("TxnResponse")(succeeded=True)
        outer.header.revision = self.revision
        for part in parts:
            outer.responses.add().response_txn.CopyFrom(part)
        return outer


@asynccontextmanager
async def committing(line: Line, limits: Limits = LIMITS) -> AsyncIterator[GroupCommit]:
    group = GroupCommit(line.send, limits)
    running = asyncio.create_task(group.run())
    try:
        yield group
    finally:
        await end(running)


def puts(*keys: str, size: int = 0) -> Txn:
    return Txn((), [put(key, bytes(size)) for key in keys])


@in_fake_time
async def test_alone_it_goes_at_once_and_what_comes_meanwhile_goes_together() -> None:
    line = Line()
    async with committing(line) as group:
        first = asyncio.create_task(group.commit(puts("a")))
        await asyncio.sleep(0.5)
        others = [asyncio.create_task(group.commit(puts(key))) for key in "bcd"]
        results = await asyncio.gather(first, *others)
    assert line.groups == [[["a"]], [["b"], ["c"], ["d"]]]
    assert [result.revision for result in results] == [1, 2, 2, 2]


@in_fake_time
async def test_what_touches_the_same_key_goes_one_after_the_other_in_order() -> None:
    line = Line()
    async with committing(line) as group:
        await asyncio.gather(*(group.commit(each) for each in (puts("a"), puts("a", "b"), puts("b"), puts("c"))))
    assert line.groups == [[["a"], ["c"]], [["a", "b"]], [["b"]]]


@in_fake_time
async def test_a_condition_on_a_key_touches_it() -> None:
    line = Line()
    async with committing(line) as group:
        txns = (Txn((absent("b"),), (put("a", b""),)), Txn((absent("a"),), (put("b", b""),)))
        await asyncio.gather(*map(group.commit, txns))
    assert line.groups == [[["a"]], [["b"]]]


@in_fake_time
async def test_to_compare_to_read_or_to_delete_the_same_key_is_no_conflict() -> None:
    line = Line()
    async with committing(line) as group:
        await asyncio.gather(*(group.commit(use(key)) for key in "abc"))
    assert line.groups == [[["a"], ["b"], ["c"]]]


def use(key: str) -> Txn:
    """Return how an endpoint of a known identity is written."""
    return Txn((value_is("identity", b"300"), created_at("node", 7)), (put(key, b""), delete("mark")), (get("node"),))


@pytest.mark.parametrize("other", [puts("identity"), puts("node"), puts("mark"), Txn((), (delete("node"),))])
def test_what_another_reads_or_deletes_is_not_written_beside_it(other: Txn) -> None:
    @in_fake_time
    async def run() -> None:
        for txns in ((use("a"), other), (other, use("a"))):
            line = Line()
            async with committing(line) as group:
                await asyncio.gather(*map(group.commit, txns))
            assert len(line.groups) == 2

    run()


@in_fake_time
async def test_a_read_and_a_deletion_of_one_key_do_not_go_together() -> None:
    line = Line()
    async with committing(line) as group:
        txns = (Txn((), (delete("mark"),)), Txn((absent("mark"),), (put("a", b""),)), Txn((), (get("mark"),)))
        await asyncio.gather(*map(group.commit, txns))
    assert line.groups == [[[]], [["a"], []]]


@pytest.mark.parametrize("ranged", [Txn((absent_prefix("x/"),), (put("r", b""),)), Txn((), (delete_prefix("x/"),))])
def test_what_touches_a_range_goes_alone_and_nothing_overtakes_it(ranged: Txn) -> None:
    @in_fake_time
    async def run() -> None:
        line = Line()
        async with committing(line) as group:
            await asyncio.gather(*map(group.commit, (puts("a"), ranged, puts("b"), puts("c"))))
        assert line.groups[0] == [["a"]]
        assert len(line.groups[1]) == 1
        assert line.groups[2] == [["b"], ["c"]]

    run()


@in_fake_time
async def test_the_refusal_of_one_is_not_that_of_the_others() -> None:
    line = Line()
    line.refused_keys = {"b"}
    async with committing(line) as group:
        outcomes = await asyncio.gather(*(group.commit(puts(key)) for key in "abc"), return_exceptions=True)
    assert [isinstance(outcome, KvstoreError) for outcome in outcomes] == [False, True, False]


@in_fake_time
async def test_a_broken_line_is_told_to_all_that_went_along_and_the_next_go_on() -> None:
    line = Line()
    async with committing(line) as group:
        line.broken = True
        outcomes = await asyncio.gather(*(group.commit(puts(key)) for key in "ab"), return_exceptions=True)
        assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
        line.broken = False
        assert (await group.commit(puts("c"))).succeeded


@in_fake_time
async def test_one_that_gave_up_waiting_does_not_disturb_the_others() -> None:
    line = Line()
    async with committing(line) as group:
        impatient = asyncio.create_task(group.commit(puts("a")))
        patient = asyncio.create_task(group.commit(puts("b")))
        await asyncio.sleep(0.5)
        await end(impatient)
        assert (await patient).succeeded


@in_fake_time
async def test_at_the_end_nobody_is_left_waiting() -> None:
    line = Line()
    async with committing(line) as group:
        tasks = [asyncio.create_task(group.commit(puts("a"))) for _ in range(3)]
        await asyncio.sleep(0.5)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["the kvstore is unavailable: the connection is closed"] * 3
    with pytest.raises(Unavailable, match="closed"):
        await group.commit(puts("b"))


@in_fake_time
async def test_what_etcd_would_refuse_for_its_size_is_not_sent() -> None:
    line = Line()
    async with committing(line) as group:
        with pytest.raises(TransactionTooLarge, match=r"21 operations .* at most 20"):
            await group.commit(puts(*map(str, range(21))))
        with pytest.raises(TransactionTooLarge, match=r"bytes"):
            await group.commit(puts("a", size=10_000))
    assert line.groups == []


TXNS = st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=6, unique=True), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(TXNS, st.integers(7, 20), st.integers(100, 1000))
def test_groups_stay_within_limits_and_keep_the_order_of_each_key(
    txns: list[list[int]], operations: int, size_bytes: int
) -> None:
    line = Line()

    @in_fake_time
    async def run() -> None:
        async with committing(line, Limits(operations, size_bytes)) as group:
            await asyncio.gather(*(group.commit(puts(*(f"{key}" for key in keys))) for keys in txns))

    run()
    sent = [keys for group in line.groups for keys in group]
    assert sorted(sent) == sorted([str(key) for key in keys] for keys in txns)
    for key in map(str, range(13)):
        assert [keys for keys in sent if key in keys] == [
            [str(each) for each in keys] for keys in txns if int(key) in keys
        ]
    for group in line.groups:
        keys = [key for each in group for key in each]
        assert len(keys) == len(set(keys))
        assert len(group) == 1 or len(group) + max(map(len, group)) <= operations


@in_fake_time
async def test_a_read_is_told_what_it_found() -> None:
    async def send(_request: Any) -> Any:
        response = message("TxnResponse")(succeeded=False)
        response.header.revision = 9
        response.responses.add().response_range.kvs.add(key=b"a", value=b"1", mod_revision=4)
        return response

    group = GroupCommit(send, LIMITS)
    running = asyncio.create_task(group.run())
    result = await group.commit(Txn((absent("a"),), (), (get("a"),)))
    assert (result.succeeded, result.revision, result.value("a"), result.value("b")) == (False, 9, b"1", None)
    await end(running)
