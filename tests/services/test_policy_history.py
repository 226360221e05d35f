"""Revisions of policy: written with their change, told with author and diff, and the way back in
one transaction.
"""

import asyncio
import random
from pathlib import Path

import msgspec
import pytest

from cilia.contracts.explanations import ExplainFlow, PeerSelector
from cilia.contracts.history import Blamed, HistoryQuery, PolicyHistory, RollbackPolicies
from cilia.contracts.ids import Revision
from cilia.contracts.keys import Keys
from cilia.contracts.policies import ApplyPolicies, DeletePolicies, PoliciesChanged
from cilia.contracts.tables import PolicyObject
from cilia.errors import Refused
from cilia.kvstore import Etcd, EtcdConfig, connect_kvstore
from laboratory.servers import start_etcd
from laboratory.services import Stage
from services.policy.history.changelog import Changelog
from services.policy.resolution.stored import StoredPolicy
from tests.services.ask import ask
from tests.services.test_policy_explain import POLICY, place, policy_service
from tests.unit.policy.service.stores import store_in

KEYS = Keys("test")
NAMES = ("a", "b", "c", "d")


def row(name: str, document: str, author: str = "") -> PolicyObject:
    return PolicyObject("CiliumNetworkPolicy", "default", name, document, author)


def key(name: str) -> str:
    return f"CiliumNetworkPolicy/default/{name}"


async def contents(etcd: Etcd) -> dict[str, str]:
    records, _ = await etcd.range(KEYS.policies)
    rows = {
        record.key.removeprefix(KEYS.policies): msgspec.json.decode(record.value, type=PolicyObject)
        for record in records
    }
    return {name: row.document for name, row in rows.items()}


async def test_a_rollback_restores_the_state_of_any_revision_whatever_happened_since(tmp_path: Path) -> None:
    choose = random.Random(7)
    with start_etcd(tmp_path) as server:
        async with connect_kvstore(EtcdConfig(endpoints=(server.address,))) as etcd:
            store = store_in(etcd, KEYS)
            states: dict[Revision, dict[str, str]] = {}
            for step in range(120):
                held = await contents(etcd)
                if held and choose.random() < 0.3:
                    changed = await store.delete(choose.sample(sorted(held), choose.randint(1, len(held))))
                elif states and choose.random() < 0.2:
                    target = choose.choice(sorted(states))
                    changed = await store.rollback(RollbackPolicies(target))
                    assert await contents(etcd) == states[target]
                else:
                    names = choose.sample(NAMES, choose.randint(1, len(NAMES)))
                    changed = await store.apply([row(name, f'{{"step": {step}}}') for name in names])
                states[changed.revision] = await contents(etcd)
            for revision in sorted(states)[::7]:
                await store.rollback(RollbackPolicies(revision))
                assert await contents(etcd) == states[revision]


async def test_what_a_replica_has_not_heard_of_yet_is_not_overwritten_unseen(tmp_path: Path) -> None:
    with start_etcd(tmp_path) as server:
        async with connect_kvstore(EtcdConfig(endpoints=(server.address,))) as etcd:
            first = await store_in(etcd, KEYS).apply([row("a", '"old"')])
            behind = store_in(etcd, KEYS, known={key("a"): StoredPolicy(row("a", '"old"'), first.revision)})
            newer = await store_in(etcd, KEYS).apply([row("a", '"new"')])
            again = await behind.apply([row("a", '"old"')])
            assert [change.action for change in again.changes] == ["changed"]
            assert again.revision > newer.revision
            assert await contents(etcd) == {key("a"): '"old"'}
            same = await store_in(etcd, KEYS, known={}).apply([row("a", '"old"')])
            assert (same.changes[0].action, same.revision) == ("unchanged", again.revision)
            deleted = await store_in(etcd, KEYS).delete([key("a")])
            made = await behind.apply([row("a", '"old"')])
            assert (made.changes[0].action, made.revision > deleted.revision) == ("created", True)


async def test_concurrent_changes_each_leave_their_revision(tmp_path: Path) -> None:
    with start_etcd(tmp_path) as server:
        async with connect_kvstore(EtcdConfig(endpoints=(server.address,))) as etcd:
            store = store_in(etcd, KEYS)
            await asyncio.gather(*(store.apply([row(f"p{n}", "{}", f"author{n}")]) for n in range(50)))
            rows = await Changelog(etcd, KEYS).read()
            assert {each.change.author for each in rows} == {f"author{n}" for n in range(50)}


async def test_nothing_is_recorded_for_what_changes_nothing_or_fails(tmp_path: Path) -> None:
    with start_etcd(tmp_path) as server:
        async with connect_kvstore(EtcdConfig(endpoints=(server.address,))) as etcd:
            store, history = store_in(etcd, KEYS), Changelog(etcd, KEYS)
            first = await store.apply([row("a", "{}")])
            await store.apply([row("a", "{}")])
            await store.apply([row("a", '{"b": 1}')], dry_run=True)
            await store.rollback(RollbackPolicies(first.revision))
            with pytest.raises(Refused, match="nope"):
                await store.delete([key("a"), key("nope")])
            assert [each.revision for each in await history.read()] == [first.revision]


async def test_old_revisions_go_and_a_rollback_beyond_them_is_refused(tmp_path: Path) -> None:
    with start_etcd(tmp_path) as server:
        async with connect_kvstore(EtcdConfig(endpoints=(server.address,))) as etcd:
            store, history = store_in(etcd, KEYS), Changelog(etcd, KEYS)
            changes = [await store.apply([row("a", f'{{"step": {step}}}')]) for step in range(150)]
            assert await history.prune(keep=20) == 130
            assert [each.revision for each in await history.read()] == [each.revision for each in changes[130:]]
            with pytest.raises(Refused, match=f"kept from revision {changes[130].revision} on"):
                await store.rollback(RollbackPolicies(changes[129].revision))
            await store.rollback(RollbackPolicies(changes[130].revision))
            assert await contents(etcd) == {key("a"): '{"step": 130}'}


async def test_the_service_tells_who_is_behind_the_rules_that_decide(stage: Stage) -> None:
    await place(stage, 1, "db", ("sql", "TCP", 5432))
    await place(stage, 2, "web")
    widened = POLICY + "  - fromEntities: [host]\n"
    async with policy_service(stage):
        first = await ask(stage.bus, "policy", "apply", ApplyPolicies(POLICY, author="ann"), PoliciesChanged)
        second = await ask(stage.bus, "policy", "apply", ApplyPolicies(widened, author="bob"), PoliciesChanged)
        flow = ExplainFlow(PeerSelector("shop/web"), PeerSelector("shop/db"), "sql/TCP", second.revision)
        (origin,) = (await ask(stage.bus, "policy", "blame", flow, Blamed)).origins
        assert origin.row is not None
        assert (origin.rule, origin.row.revision, origin.row.change.author) == (
            "spec.ingress[0]",
            first.revision,
            "ann",
        )
        denied = ExplainFlow(PeerSelector("shop/web"), PeerSelector("shop/db"), "80/TCP", second.revision)
        (isolating,) = (await ask(stage.bus, "policy", "blame", denied, Blamed)).origins
        assert isolating.row is not None
        assert isolating.row.change.author == "bob"
        await ask(
            stage.bus, "policy", "delete", DeletePolicies(("CiliumNetworkPolicy/shop/db",), "eve"), PoliciesChanged
        )
        await ask(stage.bus, "policy", "rollback", RollbackPolicies(first.revision, "ann"), PoliciesChanged)
        brief = await ask(stage.bus, "policy", "history", HistoryQuery(brief=True), PolicyHistory)
        assert {(step.before, step.after) for each in brief.rows for step in each.change.steps} == {("", "")}
        told = await ask(stage.bus, "policy", "history", HistoryQuery(), PolicyHistory)
        assert [each.revision for each in brief.rows] == [each.revision for each in told.rows]
        assert [(each.change.cause, each.change.author) for each in told.rows] == [
            (f"rollback to {first.revision}", "ann"),
            ("delete", "eve"),
            ("apply", "bob"),
            ("apply", "ann"),
        ]
        assert told.rows[0].change.steps[0].after == told.rows[3].change.steps[0].after
        with pytest.raises(Refused, match="revision 1 is unknown"):
            await ask(stage.bus, "policy", "history", HistoryQuery(revision=Revision(1)), PolicyHistory)
