from collections.abc import Iterable
from pathlib import Path
from random import Random

import pytest

from cilia.contracts.history import RollbackPolicies
from cilia.contracts.ids import Revision
from cilia.contracts.keys import Keys
from cilia.contracts.policies import ChangeAction, PolicyChange
from cilia.contracts.tables import PolicyObject
from cilia.errors import Refused
from cilia.kvstore import EtcdConfig, connect_kvstore
from laboratory.servers import start_etcd
from services.policy.changes.plan import plan_apply
from services.policy.changes.store import Store
from services.policy.history.changelog import Changelog
from services.policy.resolution.stored import StoredPolicy
from tests.unit.policy.service.stores import Admitted, store_in


def policy(name: str, document: str = "{}") -> PolicyObject:
    return PolicyObject("CiliumNetworkPolicy", "default", name, document)


def key(name: str) -> str:
    return f"CiliumNetworkPolicy/default/{name}"


def test_only_another_document_is_a_change() -> None:
    rows = {key(name): policy(name, "new") for name in ("a", "b", "c")}
    stored = {
        key("b"): StoredPolicy(policy("b", "old"), Revision(3)),
        key("c"): StoredPolicy(policy("c", "new"), Revision(4)),
    }
    changes = plan_apply(rows, stored)
    assert [change.action for change in changes] == ["created", "changed", "unchanged"]


async def test_policies_are_stored_and_removed_all_or_none(tmp_path: Path) -> None:
    with start_etcd(tmp_path) as server:
        async with connect_kvstore(EtcdConfig(endpoints=(server.address,))) as etcd:
            reserved: list[str] = []

            async def reserve(prefixes: Iterable[str]) -> None:
                reserved.extend(prefixes)

            store = Store(etcd, Keys("test"), Admitted(), reserve, {})
            applied = await store.apply([policy("a"), policy("b")])
            assert [change.action for change in applied.changes] == ["created", "created"]
            again = await store.apply([policy("a"), policy("b")])
            assert again.revision == applied.revision
            assert {change.action for change in again.changes} == {"unchanged"}
            dry = await store.apply([policy("a", "other")], dry_run=True)
            assert dry.changes == (PolicyChange(key("a"), ChangeAction.CHANGED, "{}", "other"),)
            assert (await store.apply([policy("a")])).changes == (PolicyChange(key("a"), ChangeAction.UNCHANGED),)
            with pytest.raises(Refused, match=r"not_found.*nope; nothing was deleted"):
                await store.delete([key("a"), key("nope")])
            deleted = await store.delete([key("a"), key("b"), key("a")])
            assert deleted.revision > applied.revision
            assert len(deleted.changes) == 2
            with pytest.raises(Refused, match="129 policies in one request"):
                await store.apply([policy(f"p{number}") for number in range(129)])


async def test_as_many_policies_as_etcd_takes_are_one_revision_that_can_be_rolled_back(tmp_path: Path) -> None:
    with start_etcd(tmp_path, ["--max-txn-ops=502"]) as server:
        async with connect_kvstore(EtcdConfig(endpoints=(server.address,), max_txn_ops=502)) as etcd:
            store, keys = store_in(etcd, Keys("test")), Keys("test")
            first = await store.apply([policy("before")])
            many = [policy(f"p{number}") for number in range(500)]
            applied = await store.apply(many)
            records, _ = await etcd.range(keys.policies)
            assert sum(record.mod_revision == applied.revision for record in records) == 500
            with pytest.raises(Refused, match=r"501 policies in one request; .* takes at most 500 \(max-txn-ops\)"):
                await store.apply([*many, policy("one too many")])
            back = await store.rollback(RollbackPolicies(first.revision))
            assert {change.action for change in back.changes} == {"deleted"}
            assert [record.key for record in (await etcd.range(keys.policies))[0]] == [keys.policy(key("before"))]
            await store.delete([key("before")])


async def test_documents_too_large_for_one_transaction_are_refused_whole_also_by_a_dry_run(tmp_path: Path) -> None:
    with start_etcd(tmp_path, ["--max-request-bytes=100000"]) as server:
        config = EtcdConfig(endpoints=(server.address,), max_request_bytes=100_000)
        async with connect_kvstore(config) as etcd:
            store = store_in(etcd, Keys("test"))
            large = [policy(f"p{number}", Random(number).randbytes(1_000).hex()) for number in range(50)]
            for dry_run in (True, False):
                with pytest.raises(
                    Refused, match=r"50 policies is 1\d\d,\d+ bytes in one .* 100,000 \(max-request-bytes\); nothing"
                ):
                    await store.apply(large, dry_run=dry_run)
            assert (await etcd.range(Keys("test").policies))[0] == []
            assert await Changelog(etcd, Keys("test")).read() == []
            await store.apply(large[:20])
