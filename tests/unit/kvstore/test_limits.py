"""Limits of one transaction: as configured, told with numbers before etcd refuses it."""

import asyncio
from pathlib import Path

import pytest

from cilia.errors import BadConfig
from cilia.kvstore import Etcd, EtcdConfig, LimitsDiffer, Op, TransactionTooLarge, Txn, connect_kvstore, put
from laboratory.servers import start_etcd


def puts(count: int, value: bytes = b"") -> list[Op]:
    return [put(f"many/{number}", value) for number in range(count)]


async def held(etcd: Etcd) -> int:
    return len((await etcd.range("many/"))[0])


async def test_a_transaction_larger_than_a_group_goes_alone_in_the_midst_of_a_burst(tmp_path: Path) -> None:
    with start_etcd(tmp_path, ["--max-txn-ops=1000"]) as server:
        async with connect_kvstore(EtcdConfig(endpoints=(server.address,), max_txn_ops=1000)) as etcd:
            before = [etcd.put(f"before/{number}", b"") for number in range(50)]
            after = [etcd.put(f"after/{number}", b"") for number in range(50)]
            _, large, _ = await asyncio.gather(
                asyncio.gather(*before), etcd.txn(Txn((), puts(1000))), asyncio.gather(*after)
            )
            records, _ = await etcd.range("many/")
            assert {record.mod_revision for record in records} == {large.revision}
            assert len(records) == 1000


async def test_what_is_too_large_is_told_with_its_number_and_the_limit_and_not_sent(etcd: Etcd) -> None:
    with pytest.raises(TransactionTooLarge, match=r"129 operations in one .* at most 128 \(max-txn-ops\)"):
        await etcd.txn(Txn((), puts(129)))
    with pytest.raises(
        TransactionTooLarge, match=r"2,00\d,\d+ bytes in one .* at most 1,572,864 \(max-request-bytes\)"
    ):
        await etcd.txn(Txn((), puts(100, bytes(20_000))))
    assert await held(etcd) == 0
    await etcd.txn(Txn((), puts(128, bytes(12_000))))
    assert await held(etcd) == 128


async def test_the_limit_in_bytes_is_the_one_of_etcd_to_the_last_kilobyte(tmp_path: Path) -> None:
    with start_etcd(tmp_path, ["--max-request-bytes=100000"]) as server:
        config = EtcdConfig(endpoints=(server.address,), max_request_bytes=100_000)
        async with connect_kvstore(config) as etcd:
            sizes = range(98_400, 100_400, 50)
            results = await asyncio.gather(
                *(etcd.put(f"size/{size}", bytes(size)) for size in sizes), return_exceptions=True
            )
    refused = [size for size, result in zip(sizes, results, strict=True) if not isinstance(result, int)]
    assert all(isinstance(result, int | TransactionTooLarge) for result in results)
    assert 99_000 < refused[0] <= 100_000


async def test_groups_are_no_larger_than_an_etcd_that_takes_little(tmp_path: Path) -> None:
    with start_etcd(tmp_path, ["--max-txn-ops=16"]) as server:
        async with connect_kvstore(EtcdConfig(endpoints=(server.address,), max_txn_ops=16)) as etcd:
            before = await etcd.put("before", b"")
            await asyncio.gather(*(etcd.put(f"many/{number}", b"") for number in range(100)))
            last = await etcd.put_many((f"more/{number}", b"") for number in range(100))
            assert await held(etcd) == 100
            assert last - before <= 20
            await etcd.delete_many([f"many/{number}" for number in range(100)])
            assert await held(etcd) == 0


async def test_an_etcd_that_takes_less_than_is_configured_is_told_so(tmp_path: Path) -> None:
    with start_etcd(tmp_path, ["--max-txn-ops=64", "--max-request-bytes=100000"]) as server:
        async with connect_kvstore(EtcdConfig(endpoints=(server.address,))) as etcd:
            with pytest.raises(LimitsDiffer, match=r"than etcd\.max_txn_ops and .* say: .*too many operations"):
                await etcd.txn(Txn((), puts(65)))
            for size in (110_000, 1_000_000):  # etcd refuses the one, its gRPC server already the other
                with pytest.raises(LimitsDiffer, match=r"too large|larger than max"):
                    await etcd.put("many/large", bytes(size))
            assert await held(etcd) == 0


def test_limits_that_leave_no_room_are_refused_by_name() -> None:
    with pytest.raises(BadConfig, match=r"'etcd.max_txn_ops' = 0"):
        EtcdConfig(max_txn_ops=0)
    with pytest.raises(BadConfig, match=r"'etcd.max_request_bytes' = 1024"):
        EtcdConfig(max_request_bytes=1024)
