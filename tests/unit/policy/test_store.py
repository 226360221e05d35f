from collections.abc import Iterable
from pathlib import Path

import pytest

from cilia.contracts.ids import Revision
from cilia.contracts.keys import Keys
from cilia.contracts.messages import PolicyChange
from cilia.contracts.tables import PolicyObject
from cilia.errors import Refused
from cilia.kvstore import EtcdConfig, connect_kvstore
from services.policy.store import Store, Stored, plan_apply
from tests.servers import start_etcd


def policy(name: str, document: str = "{}") -> PolicyObject:
    return PolicyObject("CiliumNetworkPolicy", "default", name, document)


def key(name: str) -> str:
    return f"CiliumNetworkPolicy/default/{name}"


def test_only_another_document_is_a_change() -> None:
    rows = {key(name): policy(name, "new") for name in ("a", "b", "c")}
    stored = {key("b"): Stored(policy("b", "old"), Revision(3)), key("c"): Stored(policy("c", "new"), Revision(4))}
    changes = plan_apply(rows, stored)
    assert [change.action for change in changes] == ["created", "changed", "unchanged"]


async def test_policies_are_stored_and_removed_all_or_none(tmp_path: Path) -> None:
    with start_etcd(tmp_path) as server:
        async with connect_kvstore(EtcdConfig(endpoints=(server.address,))) as etcd:
            reserved: list[str] = []

            async def reserve(prefixes: Iterable[str]) -> None:
                reserved.extend(prefixes)

            store = Store(etcd, Keys("test"), reserve=reserve)
            applied = await store.apply([policy("a"), policy("b")])
            assert [change.action for change in applied.changes] == ["created", "created"]
            again = await store.apply([policy("a"), policy("b")])
            assert again.revision == applied.revision
            assert {change.action for change in again.changes} == {"unchanged"}
            dry = await store.apply([policy("a", "other")], dry_run=True)
            assert dry.changes == (PolicyChange(key("a"), "changed", "{}", "other"),)
            assert (await store.apply([policy("a")])).changes == (PolicyChange(key("a"), "unchanged"),)
            with pytest.raises(Refused, match=r"not_found.*nope; nothing was deleted"):
                await store.delete([key("a"), key("nope")])
            deleted = await store.delete([key("a"), key("b"), key("a")])
            assert deleted.revision > applied.revision
            assert len(deleted.changes) == 2
            with pytest.raises(Refused, match="129 policies in one request"):
                await store.apply([policy(f"p{number}") for number in range(129)])
