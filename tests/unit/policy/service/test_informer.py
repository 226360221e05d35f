"""Replicas follow etcd: a change costs one resolution on each, whoever stored it."""

import asyncio

import msgspec
import pytest

from cilia.contracts.explanations import ExplainFlow, PeerSelector
from cilia.contracts.identities import PREFIX_SCOPE
from cilia.contracts.ids import Identity, Revision
from cilia.contracts.policies import ChangeAction
from cilia.errors import Refused, Unavailable
from services.policy.changes.errors import TooManyEntries
from tests.fakes.clock import in_fake_time, settle
from tests.unit.policy.service.changes_of import endpoint, identity, key, outsiders, policy
from tests.unit.policy.service.replica import KEYS, put_fact, replica, small_cluster


@in_fake_time
async def test_a_change_is_resolved_once_by_the_replica_that_took_it_and_once_by_the_others() -> None:
    etcd = small_cluster()
    async with replica(etcd) as one, replica(etcd) as other:
        changed = await one.store.apply([policy("db", "db", 80, 443)])
        await one.informer.reach(changed.revision)
        await other.informer.reach(changed.revision)
        assert (one.counts(), other.counts()) == ((1, 1, 0), (1, 0, 0))
        assert one.rows() == other.rows()
        assert one.informer.ledger.newest == other.informer.ledger.newest == changed.revision


@in_fake_time
async def test_a_change_that_names_new_prefixes_is_resolved_once() -> None:
    etcd = small_cluster()
    async with replica(etcd) as one, replica(etcd) as other:
        changed = await one.store.apply([outsiders("db", "db", "192.0.2.0/24", "198.51.100.0/24")])
        await one.informer.reach(changed.revision)
        await other.informer.reach(changed.revision)
        assert (one.counts(), other.counts()) == ((1, 1, 0), (1, 0, 0))
        assert one.rows() == other.rows()
        assert sum(row.key.identity >= PREFIX_SCOPE for row in one.rows()) == 2


@in_fake_time
async def test_changes_that_are_under_way_at_once_are_resolved_once_each() -> None:
    etcd = small_cluster()
    async with replica(etcd) as one, replica(etcd) as other:
        wanted = [policy("db", "db", 80), policy("web", "web", 80), policy("more", "db", 81)]
        changed = await asyncio.gather(*(one.store.apply([each]) for each in wanted))
        for each in (one, other):
            await each.informer.reach(max(each.revision for each in changed))
        assert (one.counts(), other.counts()) == ((3, 3, 0), (3, 0, 0))
        assert one.rows() == other.rows()


@in_fake_time
async def test_changes_that_only_fit_alone_are_not_admitted_both() -> None:
    etcd = small_cluster()
    async with replica(etcd, capacity=11) as one:
        wanted = [policy("db", "db", 80, 443), policy("web", "web", 80, 443)]
        outcomes = await asyncio.gather(*(one.store.apply([each]) for each in wanted), return_exceptions=True)
        assert [isinstance(each, TooManyEntries) for each in outcomes] == [False, True]
        await settle()
        assert one.counts() == (2, 1, 1)
        assert etcd.keys(KEYS.policies) == [KEYS.policy(key("db"))]


@in_fake_time
async def test_prefixes_count_before_they_have_an_identity_and_a_refused_change_leaves_them_unused() -> None:
    etcd = small_cluster()
    wide = outsiders("db", "db", *(f"198.51.{number}.0/24" for number in range(20)))
    async with replica(etcd, capacity=20) as one:
        before = one.rows()
        for dry_run in (True, False):
            with pytest.raises(TooManyEntries, match="wants 22 entries"):
                await one.store.apply([wide], dry_run=dry_run)
            assert bool(etcd.keys(f"{KEYS.identities}{PREFIX_SCOPE >> 20}")) is not dry_run
        assert etcd.keys(KEYS.policies) == []
        assert one.rows() == before


@in_fake_time
async def test_changes_at_two_replicas_at_once_end_the_same_everywhere() -> None:
    etcd = small_cluster()
    async with replica(etcd) as one, replica(etcd) as other:
        etcd.before_txn.append(lambda: put_fact(etcd, identity(303, "k8s:role=peer")))
        await one.store.apply([policy("db", "db", 80)])
        last = await other.store.apply([policy("web", "web", 80)])
        for each in (one, other):
            await each.informer.reach(last.revision)
        assert one.rows() == other.rows()
        assert one.counts()[1:] == (0, 1)
        assert any(row.key.identity == 303 for row in one.rows())


@in_fake_time
async def test_a_transaction_that_was_lost_is_planned_anew() -> None:
    etcd = small_cluster()
    async with replica(etcd) as one, replica(etcd) as rival:
        winner = policy("db", "db", 9000)

        def lose() -> None:
            etcd.set(KEYS.policy(key("db")), msgspec.json.encode(winner))

        etcd.before_txn.append(lose)
        changed = await one.store.apply([policy("db", "db", 80)])
        assert [each.action for each in changed.changes] == [ChangeAction.CHANGED]
        await one.informer.reach(changed.revision)
        await rival.informer.reach(changed.revision)
        assert one.rows() == rival.rows()


@in_fake_time
async def test_a_change_without_room_is_refused_and_leaves_no_trace() -> None:
    etcd = small_cluster()
    async with replica(etcd, capacity=3) as one:
        before = one.rows()
        with pytest.raises(Refused, match="wants"):
            await one.store.apply([policy("db", "db", 80, 443)])
        assert one.rows() == before
        assert one.counts() == (1, 0, 1)
        assert etcd.keys(KEYS.policies) == []


@in_fake_time
async def test_a_dry_run_stores_nothing_and_is_taken_back() -> None:
    etcd = small_cluster()
    async with replica(etcd) as one:
        before = one.rows()
        dry = await one.store.apply([policy("db", "db", 80)], dry_run=True)
        assert [forecast.node for forecast in dry.forecast] == ["n1"]
        assert (etcd.keys(KEYS.policies), one.counts()) == ([], (1, 0, 1))
        assert one.rows() == before


@in_fake_time
async def test_a_change_that_failed_leaves_no_trial_and_may_be_sent_again() -> None:
    etcd = small_cluster()
    async with replica(etcd) as one:
        etcd.failures.append(Unavailable("etcd", "the answer is lost"))
        with pytest.raises(Unavailable):
            await one.store.apply([policy("db", "db", 80)])
        assert one.counts() == (1, 0, 1)
        again = await one.store.apply([policy("db", "db", 80)])
        await one.informer.reach(again.revision)
        assert one.counts() == (2, 1, 1)


@in_fake_time
async def test_a_replica_that_starts_late_has_what_is_there() -> None:
    etcd = small_cluster()
    async with replica(etcd) as one:
        changed = await one.store.apply([policy("db", "db", 80), policy("web", "web", 443)])
        await one.informer.reach(changed.revision)
        async with replica(etcd) as late:
            assert late.rows() == one.rows()
            assert late.informer.stored == one.informer.stored
            assert late.informer.ledger.newest == changed.revision
            assert not late.informer.ledger.remembers(changed.revision)
            assert late.counts() == (0, 0, 0)


@in_fake_time
async def test_endpoints_that_come_change_and_go_move_their_nodes() -> None:
    etcd = small_cluster()
    async with replica(etcd) as one:
        revision = put_fact(etcd, endpoint("n9", 7, 300))
        await one.informer.reach(Revision(revision))
        assert one.informer.nodes.counts[Identity(300)] == {"n1": 1, "n9": 1}
        gone = endpoint("n9", 7, 300).key
        await one.informer.reach(Revision(etcd.remove(KEYS.endpoint(gone.node, gone.id))))
        assert one.informer.nodes.counts[Identity(300)] == {"n1": 1}


@in_fake_time
async def test_a_deleted_policy_is_forgotten_and_its_rules_go() -> None:
    etcd = small_cluster()
    async with replica(etcd) as one:
        before = one.rows()
        await one.store.apply([policy("db", "db", 80)])
        await settle()
        deleted = await one.store.delete([key("db")])
        await one.informer.reach(deleted.revision)
        assert (one.rows(), one.informer.stored) == (before, {})
        assert one.counts() == (2, 2, 0)


@in_fake_time
async def test_the_prefixes_that_stored_policies_name_are_known() -> None:
    etcd = small_cluster()
    async with replica(etcd) as one:
        changed = await one.store.apply([outsiders("db", "db", "192.0.2.0/24", "198.51.100.0/24")])
        await one.informer.reach(changed.revision)
        assert one.informer.named_prefixes() == {"192.0.2.0/24", "198.51.100.0/24"}


@in_fake_time
async def test_an_explanation_waits_for_its_revision_and_no_longer_than_it_may() -> None:
    etcd = small_cluster()
    async with replica(etcd) as one:
        changed = await one.store.apply([policy("db", "db", 80)])
        ends = PeerSelector("300"), PeerSelector("301")
        explained = await one.informer.explain(ExplainFlow(*ends, "80/TCP", changed.revision))
        assert not explained.allowed
        assert explained.revision >= changed.revision
        with pytest.raises(Unavailable, match=f"revision {changed.revision + 99} is not resolved yet"):
            await one.informer.explain(ExplainFlow(*ends, "80/TCP", Revision(changed.revision + 99)))
