"""The client against a real etcd."""

import asyncio
from contextlib import aclosing

import pytest

from cilia.errors import Unavailable
from cilia.kvstore import (
    Compacted,
    Etcd,
    EtcdConfig,
    LeaseNotFound,
    Txn,
    TxnResult,
    absent,
    absent_prefix,
    connect_kvstore,
    created_at,
    delete,
    get,
    present,
    put,
    unchanged,
    value_is,
)
from laboratory.servers import Server, free_port


async def test_a_key_is_read_as_it_was_written(etcd: Etcd) -> None:
    revision = await etcd.put("a/1", b"\x00one")
    record = await etcd.get("a/1")
    assert record is not None
    assert (record.value, record.mod_revision, record.lease) == (b"\x00one", revision, 0)
    assert await etcd.get("a/2") is None


async def test_a_range_of_several_pages_is_of_one_revision_and_beyond_four_megabytes(etcd: Etcd) -> None:
    wanted = {f"r/{number:05}": bytes(2_000) for number in range(3_000)}
    last = await etcd.put_many(wanted.items())
    await etcd.put("s/other", b"")
    records, revision = await etcd.range("r/", page=700)
    assert {record.key: record.value for record in records} == wanted
    assert revision == last + 1
    await etcd.put("r/late", b"")
    records, _ = await etcd.range("r/", revision=revision)
    assert len(records) == len(wanted)


async def test_a_transaction_does_all_of_one_branch(etcd: Etcd) -> None:
    first = await etcd.txn(Txn((absent("t"),), (put("t", b"1"), put("u", b"1"))))
    assert first.succeeded
    second = await etcd.txn(Txn((absent("t"),), (put("u", b"2"),), (get("t"),)))
    assert not second.succeeded
    assert second.value("t") == b"1"
    assert (await etcd.txn(Txn((value_is("t", b"1"), unchanged("u", first.revision)), (delete("t"),)))).succeeded
    assert await etcd.get("t") is None


async def test_an_empty_prefix_can_be_a_condition(etcd: Etcd) -> None:
    assert (await etcd.txn(Txn((absent_prefix("refs/1/"),), (put("x", b""),)))).succeeded
    await etcd.put("refs/1/a", b"")
    assert not (await etcd.txn(Txn((absent_prefix("refs/1/"),), (put("x", b""),)))).succeeded


async def test_concurrent_transactions_on_one_key_have_one_winner(etcd: Etcd) -> None:
    attempts = [etcd.txn(Txn((absent("won"),), (put("won", str(number).encode()),))) for number in range(50)]
    results = await asyncio.gather(*attempts)
    assert sum(result.succeeded for result in results) == 1


async def test_conditions_on_each_others_keys_are_not_grouped(etcd: Etcd) -> None:
    """Write skew: each creates what the other demands to be absent; one after the other, only one
    can succeed.
    """
    for number in range(20):
        left, right = f"l{number}", f"r{number}"
        results = await asyncio.gather(
            etcd.put(f"busy{number}", b""),
            etcd.txn(Txn((absent(right),), (put(left, b""),))),
            etcd.txn(Txn((absent(left),), (put(right, b""),))),
        )
        assert [result.succeeded for result in results[1:]] == [True, False]


async def test_uses_of_one_key_share_requests_and_each_is_told_its_own_outcome(etcd: Etcd) -> None:
    """Endpoints of one identity: each compares the identity and its node, and deletes one mark."""
    node = await etcd.put("node", b"")
    before = await etcd.put("identity", b"300")
    results = await asyncio.gather(*(use(etcd, f"use/{number}", node) for number in range(100)), use(etcd, "late", 1))
    assert [result.succeeded for result in results] == [True] * 100 + [False]
    assert len({result.revision for result in results[:100]}) <= 4
    assert len((await etcd.range("use/"))[0]) == 100
    assert results[-1].records[0].create_revision == node < before


async def use(etcd: Etcd, key: str, incarnation: int) -> TxnResult:
    conditions = (value_is("identity", b"300"), created_at("node", incarnation), present("node"))
    return await etcd.txn(Txn(conditions, (put(key, b""), delete("mark")), (get("node"),)))


async def test_a_refusal_in_a_group_hits_only_the_one_it_concerns(etcd: Etcd) -> None:
    outcomes = await asyncio.gather(
        *(etcd.put(f"k{number}", b"v", lease=12345 if number == 7 else 0) for number in range(20)),
        return_exceptions=True,
    )
    assert isinstance(outcomes[7], LeaseNotFound)
    assert all(isinstance(outcome, int) for number, outcome in enumerate(outcomes) if number != 7)


async def test_a_burst_larger_than_a_transaction_takes_few_requests(etcd: Etcd) -> None:
    """etcd charges nested transactions for their number and their longest list: 128 of one
    operation are too many.
    """
    for burst, operations in ((300, 1), (126, 3)):
        before = await etcd.put("before", b"")
        creations = []
        for number in range(burst):
            keys = [f"burst/{operations}/{number}/{part}" for part in range(operations)]
            creations.append(etcd.txn(Txn((absent(keys[0]),), [put(key, b"") for key in keys])))
        results = await asyncio.gather(*creations)
        assert all(result.succeeded for result in results)
        revisions = {result.revision for result in results}
        assert max(revisions) - before == len(revisions) <= burst / 60


async def test_many_large_values_are_written_in_transactions_that_etcd_takes(etcd: Etcd) -> None:
    await etcd.put_many((f"large/{number}", bytes(20_000)) for number in range(300))
    await asyncio.gather(*(etcd.put(f"large/more/{number}", bytes(50_000)) for number in range(60)))
    records, _ = await etcd.range("large/")
    assert len(records) == 360


async def test_a_lease_that_nobody_extends_ends_with_its_keys(etcd: Etcd) -> None:
    lease = await etcd.grant(1)
    await etcd.put("fleeting", b"", lease)
    async with asyncio.timeout(60), aclosing(etcd.watch("fleeting", 1)) as batches:
        async for batch in batches:
            if any(event.removed for event in batch.events):
                break
    with pytest.raises(LeaseNotFound):
        await etcd.put("fleeting", b"", lease)


async def test_what_hangs_on_a_lease_goes_with_it(etcd: Etcd) -> None:
    lease = await etcd.grant(60)
    await etcd.put("leased", b"", lease)
    assert await etcd.keep_alive(lease) == 60
    assert 0 < await etcd.time_to_live(lease) <= 60
    await etcd.revoke(lease)
    await etcd.revoke(lease)
    assert await etcd.get("leased") is None
    assert await etcd.time_to_live(lease) == -1
    with pytest.raises(LeaseNotFound):
        await etcd.keep_alive(lease)


async def test_a_compacted_revision_is_named(etcd: Etcd) -> None:
    for _ in range(5):
        last = await etcd.put("c", b"")
    await etcd.compact(last)
    await etcd.compact(last)
    with pytest.raises(Compacted, match="revision 2"):
        await etcd.range("c", revision=2)
    with pytest.raises(Compacted, match=f"oldest kept: {last}"):
        await anext(etcd.watch("c", 2))


async def test_a_missing_server_is_named_within_the_timeout() -> None:
    port = free_port()
    config = EtcdConfig(endpoints=(f"127.0.0.1:{port}",), timeout_seconds=0.3)
    with pytest.raises(Unavailable, match=f"etcd at 127.0.0.1:{port} is unavailable: .*0.3 s .*refused"):
        async with connect_kvstore(config):
            pass


async def test_a_dead_endpoint_is_passed_over(server: Server) -> None:
    config = EtcdConfig(endpoints=(f"127.0.0.1:{free_port()}", server.address))
    async with connect_kvstore(config) as etcd:
        assert await etcd.put("a", b"") > 0


async def test_a_commit_after_the_end_is_refused_instead_of_waiting(server: Server) -> None:
    async with connect_kvstore(EtcdConfig(endpoints=(server.address,))) as etcd:
        await etcd.put("a", b"")
    with pytest.raises(Unavailable, match="connection is closed"):
        await etcd.put("a", b"")
