"""Changes against an etcd that is contended, away or full."""

import asyncio
from collections.abc import Iterable

import msgspec
import pytest
from msgspec.structs import replace

from cilia.contracts.direction import Direction
from cilia.contracts.explanations import Explained, ExplainFlow, PeerSelector, RulePath, Side, VerdictReason
from cilia.contracts.history import HistoryQuery, RollbackPolicies
from cilia.contracts.ids import Revision
from cilia.contracts.keys import Keys
from cilia.contracts.policies import ChangeAction, NodeForecast, PolicyFile, SyncPolicies
from cilia.contracts.tables import PolicyObject
from cilia.errors import Refused, Unavailable
from services.policy.changes.errors import ATTEMPTS
from services.policy.changes.store import Store
from services.policy.history.blame import blame
from services.policy.history.changelog import Changelog
from services.policy.history.revisions import documents_at, find_origin
from services.policy.resolution.trial import DesiredPolicies
from tests.fakes.clock import in_fake_time
from tests.fakes.etcd import FakeEtcd
from tests.unit.policy.service.stores import Admitted, reserve_nothing, store_in

KEYS = Keys("test")


def key(name: str) -> str:
    return f"CiliumNetworkPolicy/x/{name}"


def row(name: str, document: str = "{}", author: str = "") -> PolicyObject:
    return PolicyObject("CiliumNetworkPolicy", "x", name, document, author)


async def test_nothing_is_stored_when_others_win_time_and_again() -> None:
    etcd = FakeEtcd()
    store = store_in(etcd, KEYS)

    def win() -> None:
        etcd.set(KEYS.policy(key("a")), msgspec.json.encode(row("a", str(etcd.revision))))

    etcd.before_txn += [win] * (2 * ATTEMPTS)
    with pytest.raises(Refused, match=rf"busy.*changed {ATTEMPTS} times meanwhile"):
        await store.apply([row("a")])


async def test_a_lost_transaction_is_planned_on_what_is_there() -> None:
    etcd = FakeEtcd()
    store = store_in(etcd, KEYS)
    etcd.before_txn.append(lambda: etcd.set(KEYS.policy(key("a")), msgspec.json.encode(row("a", "[]"))))
    changed = await store.apply([row("a")])
    assert [each.action for each in changed.changes] == [ChangeAction.CHANGED]
    assert changed.revision == etcd.revision


async def test_a_row_that_is_stored_already_costs_a_look_and_no_transaction() -> None:
    etcd = FakeEtcd()
    first = await store_in(etcd, KEYS).apply([row("a")])
    known = Store(etcd, KEYS, Admitted(), reserve_nothing, {})
    again = await known.apply([row("a")])
    assert (again.revision, etcd.revision) == (first.revision, first.revision)


async def test_nothing_is_stored_while_etcd_is_away_or_no_identity_is_made() -> None:
    etcd = FakeEtcd()

    async def refuse(_: object) -> None:
        raise Unavailable("identity", "nobody serves 'prefixes'")

    with pytest.raises(Unavailable, match="identity"):
        await Store(etcd, KEYS, Admitted(), refuse, {}).apply([row("a")])
    etcd.away = True
    with pytest.raises(Unavailable, match="etcd"):
        await store_in(etcd, KEYS).apply([row("a")])
    assert etcd.keys() == []


async def test_a_dry_run_is_only_forecast_and_what_is_not_made_is_withdrawn() -> None:
    etcd, admission = FakeEtcd(), Admitted()
    store, wanted = Store(etcd, KEYS, admission, reserve_nothing, {}), {key("a"): row("a")}
    await store.apply([row("a")], dry_run=True)
    assert (admission.forecasts, admission.withdrawn) == ([wanted], [])
    etcd.failures.append(Unavailable("etcd", "away"))
    with pytest.raises(Unavailable):
        await store.apply([row("a")])
    assert admission.withdrawn == [wanted]
    etcd.before_txn.append(lambda: etcd.set(KEYS.policy(key("a")), msgspec.json.encode(row("a", "of a rival"))))
    await store.apply([row("a")])
    assert (admission.forecasts, admission.withdrawn) == ([wanted], [wanted, wanted])


async def test_prefixes_are_reserved_before_a_change_is_tried_and_never_for_a_dry_run() -> None:
    acts: list[str] = []

    class Noted(Admitted):
        async def admit(self, desired: DesiredPolicies) -> tuple[NodeForecast, ...]:
            acts.append("try")
            return ()

    async def reserve(prefixes: Iterable[str]) -> None:
        acts.extend(prefixes)

    store = Store(FakeEtcd(), KEYS, Noted(), reserve, {})
    wanted = [replace(row("a"), prefixes=("192.0.2.0/24",))]
    await store.apply(wanted, dry_run=True)
    assert acts == []
    await store.apply(wanted)
    assert acts == ["192.0.2.0/24", "try"]


async def test_a_sync_makes_an_owners_policies_what_its_files_say() -> None:
    etcd = FakeEtcd()
    store = store_in(etcd, KEYS)
    mine = {key(name): replace(row(name), owner="repo", file=f"{name}.yaml") for name in "ab"}
    await store.sync(SyncPolicies("repo", ()), mine)
    synced = await store.sync(SyncPolicies("repo", (PolicyFile("a.yaml", ""),)), {key("a"): mine[key("a")]})
    assert {each.key: each.action for each in synced.changes} == {key("b"): ChangeAction.DELETED}
    before = etcd.revision
    again = await store.sync(SyncPolicies("repo", ()), {key("a"): mine[key("a")]})
    assert (etcd.revision, {each.action for each in again.changes}) == (before, {ChangeAction.UNCHANGED})


async def test_a_rollback_goes_back_to_any_revision_and_not_before_the_oldest() -> None:
    etcd = FakeEtcd()
    store = store_in(etcd, KEYS)
    one = await store.apply([row("a", "1")])
    await store.apply([row("a", "2"), row("b", "2")])
    await store.delete([key("a")])
    back = await store.rollback(RollbackPolicies(one.revision))
    assert {each.key: each.action for each in back.changes} == {
        key("a"): ChangeAction.CREATED,
        key("b"): ChangeAction.DELETED,
    }
    with pytest.raises(Refused, match=f"is kept from revision {one.revision} on"):
        await store.rollback(RollbackPolicies(Revision(one.revision - 1)))
    with pytest.raises(Refused, match="the history of policies is empty"):
        await store_in(FakeEtcd(), KEYS).rollback(RollbackPolicies(Revision(1)))


async def test_history_lists_the_newest_first_with_author_and_cause() -> None:
    etcd = FakeEtcd()
    store, history = store_in(etcd, KEYS), Changelog(etcd, KEYS)
    await store.apply([row("a", "1", "ann")])
    second = await store.apply([row("b", "1", "bob")])
    await store.delete([key("a")], author="cid")
    listed = await history.list(HistoryQuery())
    assert [(each.change.author, each.change.cause) for each in listed.rows] == [
        ("cid", "delete"),
        ("bob", "apply"),
        ("ann", "apply"),
    ]
    assert [each.revision for each in (await history.list(HistoryQuery(key("b")))).rows] == [second.revision]
    (one,) = (await history.list(HistoryQuery(revision=second.revision, brief=True))).rows
    assert one.change.steps[0].after == ""
    with pytest.raises(Refused, match="revision 99 is unknown"):
        await history.list(HistoryQuery(revision=Revision(99)))


@in_fake_time
async def test_the_oldest_revisions_go_while_a_replica_leads() -> None:
    etcd, leads = FakeEtcd(), [False]
    store, history = store_in(etcd, KEYS), Changelog(etcd, KEYS)
    for number in range(5):
        await store.apply([row("a", str(number))])
    assert await history.prune(3) == 2
    assert [each.change.steps[0].after for each in await history.read()] == ["2", "3", "4"]
    loop = asyncio.create_task(history.prune_while(lambda: leads[0]))
    await asyncio.sleep(600)
    leads[0] = True
    await asyncio.sleep(600)
    assert len(await history.read()) == 3
    loop.cancel()


async def test_the_state_at_a_revision_and_the_origin_of_a_rule_are_in_the_history() -> None:
    etcd = FakeEtcd()
    store, history = store_in(etcd, KEYS), Changelog(etcd, KEYS)
    made = await store.apply([row("a", '{"spec": {"ingress": [{"x": 1}, {"y": 1}]}}', "ann")])
    await store.apply([row("a", '{"spec": {"ingress": [{"x": 2}, {"y": 1}]}}', "bob")])
    rows = await history.read()
    assert documents_at(rows, made.revision) == {key("a"): '{"spec": {"ingress": [{"x": 1}, {"y": 1}]}}'}
    origins = [find_origin(rows, key("a"), path) for path in ("spec.ingress[0]", "spec.ingress[1]", "", "spec.egress")]
    assert [origin and origin.change.author for origin in origins] == ["bob", "ann", "bob", None]

    async def explain(request: ExplainFlow) -> Explained:
        path = RulePath(key("a"), "spec.ingress[1]")
        side = Side(Direction.INGRESS, "web", True, VerdictReason.RULE, (path, path), (key("a"),))
        other = Side(Direction.EGRESS, "db", True, VerdictReason.OPEN)
        return Explained("web", "db", "TCP", 80, True, other, side)

    flow = ExplainFlow(PeerSelector("web"), PeerSelector("db"), "80/TCP")
    blamed = await blame(history, explain, flow)
    assert [(each.rule, each.row and each.row.change.author) for each in blamed.origins] == [
        ("spec.ingress[1]", "ann"),
        ("", "bob"),
    ]
