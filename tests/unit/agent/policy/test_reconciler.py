"""Policy of local identities comes into force whole, in order, and within its room."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest

from cilia.contracts.ids import Identity, Revision
from cilia.contracts.tables import PolicyEntry, PolicyKey, SubjectKey
from services.agent.errors import NoSlot, PolicyDoesNotFit
from services.agent.policy.instructions import RealisedPolicy, StorePolicyEpoch, Version, named_only_of, shapes_of
from services.agent.policy.reconciler import PolicyReconciler
from tests.unit.agent.loops import running, until
from tests.unit.agent.policy.fake_maps import FakePolicyMaps
from tests.unit.agent.tables import MirroredTable, turns

ALLOW, DENY = PolicyEntry(False, 1), PolicyEntry(True, 2)
WEB, DB, OTHER = map(Identity, (300, 301, 302))
Entries = Mapping[PolicyKey, PolicyEntry]


def port(number: int = 80, peer: int = 0) -> PolicyKey:
    return PolicyKey(False, Identity(peer), 6, number, 16)


def many(count: int, first: int = 1000) -> Entries:
    return {port(first + number): ALLOW for number in range(count)}


def left(entries: Entries, leftover: Entries | None = None) -> RealisedPolicy:
    version = Version(3, 0, shapes_of(entries), named_only=named_only_of(entries))
    return RealisedPolicy(version, entries, frozenset(leftover or {}))


class Agent:
    """The reconciler over policy of a test; grace periods end when the test lets them."""

    def __init__(self, maps: FakePolicyMaps | None = None) -> None:
        self.maps = maps or FakePolicyMaps()
        self.table: MirroredTable[SubjectKey, PolicyEntry] = MirroredTable(every=False)
        self.acknowledged: list[Mapping[Identity, Revision]] = []
        self.grace = asyncio.Event()
        self.grace.set()
        self.prepared = 0
        self.reconciler = PolicyReconciler(
            self.maps.maps, self.table.subscriber, acknowledge=self._acknowledge, synchronize_rcu=self._synchronize_rcu
        )

    async def _acknowledge(self, sequences: Mapping[Identity, Revision]) -> None:
        self.acknowledged.append(dict(sequences))

    async def _synchronize_rcu(self) -> None:
        await self.grace.wait()
        self.maps.synchronize_rcu()

    async def _prepare_addresses(self) -> None:
        self.prepared += 1

    @property
    def loops(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        return (
            lambda: self.reconciler.run(self._prepare_addresses),
            self.reconciler.watch,
            self.reconciler.cleanups.run,
        )

    def resolve(self, sequence: int, **policies: Entries) -> None:
        """Have resolved policy of identities arrive together, such as ``web={...}``."""
        named = {"web": WEB, "db": DB, "other": OTHER}
        shards, removes = {}, list[SubjectKey]()
        for name, entries in policies.items():
            identity = named[name]
            former = self.table.rows(str(identity))
            wanted = {SubjectKey(identity, key): entry for key, entry in entries.items()}
            removes += former.keys() - wanted.keys()
            shards[str(identity)] = wanted
        self.table.commit_together(shards, removes, sequence=sequence)

    def in_force(self, identity: Identity) -> Entries:
        return self.maps.in_force(self.reconciler.slot(identity))


async def test_policy_is_in_force_once_it_is_known_and_is_acknowledged() -> None:
    agent = Agent()
    async with running(*agent.loops):
        assert agent.reconciler.ensure(WEB) == 1
        await turns()
        assert agent.in_force(WEB) == {}
        assert not agent.reconciler.in_force(WEB)
        agent.resolve(5, web={port(): ALLOW})
        await until(lambda: agent.in_force(WEB) == {port(): ALLOW})
        await until(lambda: agent.acknowledged == [{WEB: 5}])
    assert agent.reconciler.in_force(WEB)
    assert agent.maps.identities == {1: WEB}
    assert agent.reconciler.read(WEB) == {port(): ALLOW}


async def test_an_empty_policy_is_realised_as_well() -> None:
    agent = Agent()
    async with running(*agent.loops):
        agent.reconciler.ensure(WEB)
        agent.resolve(5, web={})
        await until(lambda: agent.reconciler.in_force(WEB))
    assert agent.reconciler.realised == {WEB: 5}


async def test_what_changes_together_comes_into_force_by_one_store() -> None:
    agent = Agent()
    async with running(*agent.loops):
        for identity in (WEB, DB):
            agent.reconciler.ensure(identity)
        agent.resolve(5, web={port(): ALLOW}, db={port(): ALLOW})
        await until(lambda: len(agent.reconciler.realised) == 2)
        await until(lambda: not agent.reconciler.cleanups.busy)
        agent.resolve(6, web={port(): DENY}, db={port(): DENY})
        await until(lambda: agent.reconciler.realised == {WEB: 6, DB: 6})
        await until(lambda: not agent.reconciler.cleanups.busy)
    assert [type(each) for each in agent.maps.performed].count(StorePolicyEpoch) == 1
    assert agent.in_force(WEB) == agent.in_force(DB) == {port(): DENY}
    assert agent.acknowledged[-1] == {WEB: 6, DB: 6}


async def test_during_a_grace_period_a_slot_is_left_alone_and_what_comes_is_one_change() -> None:
    agent = Agent()
    async with running(*agent.loops):
        agent.reconciler.ensure(WEB)
        agent.resolve(1, web={port(): ALLOW})
        await until(lambda: agent.reconciler.realised == {WEB: 1})
        agent.grace.clear()
        agent.resolve(2, web={port(): DENY})
        await until(lambda: agent.reconciler.realised == {WEB: 2})
        assert agent.reconciler.cleanups.busy == {1}
        agent.resolve(3, web={port(81): ALLOW})
        agent.resolve(4, web={port(82): ALLOW})
        await turns()
        assert agent.reconciler.realised == {WEB: 2}
        agent.grace.set()
        await until(lambda: agent.in_force(WEB) == {port(82): ALLOW})
    assert {WEB: 3} not in agent.acknowledged


async def test_another_identity_does_not_wait_for_a_grace_period() -> None:
    agent = Agent()
    async with running(*agent.loops):
        for identity in (WEB, DB):
            agent.reconciler.ensure(identity)
        agent.resolve(1, web={port(): ALLOW})
        await until(lambda: agent.reconciler.realised == {WEB: 1})
        agent.grace.clear()
        agent.resolve(2, web={port(): DENY})
        await until(lambda: agent.reconciler.realised == {WEB: 2})
        agent.resolve(3, db={port(): ALLOW})
        await until(lambda: agent.in_force(DB) == {port(): ALLOW})


async def test_an_act_of_which_one_slot_is_busy_waits_as_a_whole() -> None:
    agent = Agent()
    async with running(*agent.loops):
        for identity in (WEB, DB):
            agent.reconciler.ensure(identity)
        agent.resolve(1, web={port(): ALLOW}, db={port(): ALLOW})
        await until(lambda: len(agent.reconciler.realised) == 2)
        agent.grace.clear()
        agent.resolve(2, web={port(): DENY})
        await until(lambda: agent.reconciler.realised[WEB] == 2)
        agent.resolve(3, web={port(81): ALLOW}, db={port(81): ALLOW})
        await turns()
        assert agent.in_force(DB) == {port(): ALLOW}
        agent.grace.set()
        await until(lambda: agent.in_force(WEB) == agent.in_force(DB) == {port(81): ALLOW})


async def test_a_policy_without_room_leaves_the_older_one_and_is_named() -> None:
    agent = Agent(FakePolicyMaps(capacity=10))
    async with running(*agent.loops):
        agent.reconciler.ensure(WEB)
        agent.resolve(1, web={port(): ALLOW})
        await until(lambda: agent.reconciler.realised == {WEB: 1})
        agent.resolve(2, web=many(20))
        await until(lambda: WEB in agent.reconciler.refused)
    assert str(agent.reconciler.refused[WEB]) == "policy of identity 300: 20 entries wanted, 9 free in cilia_policy"
    assert agent.in_force(WEB) == {port(): ALLOW}
    assert agent.reconciler.counters.refused == 1


async def test_a_policy_without_room_comes_into_force_when_another_one_goes() -> None:
    agent = Agent(FakePolicyMaps(capacity=10))
    async with running(*agent.loops):
        for identity in (WEB, DB):
            agent.reconciler.ensure(identity)
        agent.resolve(1, web=many(6))
        await until(lambda: agent.reconciler.realised == {WEB: 1})
        agent.resolve(2, db=many(6))
        await until(lambda: DB in agent.reconciler.refused)
        agent.reconciler.release(WEB)
        await until(lambda: agent.in_force(DB) == many(6))
    assert agent.reconciler.refused == {}


async def test_a_policy_without_room_comes_into_force_when_another_one_shrinks() -> None:
    agent = Agent(FakePolicyMaps(capacity=12))
    async with running(*agent.loops):
        for identity in (WEB, DB):
            agent.reconciler.ensure(identity)
        agent.resolve(1, web=many(8))
        await until(lambda: agent.reconciler.realised == {WEB: 1})
        agent.resolve(2, db=many(6))
        await until(lambda: DB in agent.reconciler.refused)
        agent.resolve(3, web={port(1): DENY})
        await until(lambda: agent.in_force(DB) == many(6))
    assert agent.reconciler.entries == 7


async def test_an_identity_that_lives_here_no_more_gives_its_slot_back_after_its_entries() -> None:
    agent = Agent(FakePolicyMaps(slots=2))
    async with running(*agent.loops):
        slot = agent.reconciler.ensure(WEB)
        agent.resolve(1, web={port(): ALLOW})
        await until(lambda: agent.reconciler.realised == {WEB: 1})
        with pytest.raises(NoSlot):
            agent.reconciler.ensure(DB)
        agent.reconciler.release(WEB)
        await until(lambda: agent.reconciler.slots_in_use == 0)
        assert agent.maps.kernel.count() == agent.reconciler.entries == 0
        assert agent.maps.identities[slot] == 0
        assert agent.reconciler.ensure(DB) == slot


async def test_an_identity_that_returns_during_its_release_keeps_its_slot() -> None:
    agent = Agent()
    async with running(*agent.loops):
        slot = agent.reconciler.ensure(WEB)
        agent.resolve(1, web={port(): ALLOW})
        await until(lambda: agent.reconciler.realised == {WEB: 1})
        agent.grace.clear()
        agent.reconciler.release(WEB)
        await until(lambda: bool(agent.reconciler.cleanups.busy))
        assert agent.reconciler.ensure(WEB) == slot
        agent.grace.set()
        await until(lambda: agent.in_force(WEB) == {port(): ALLOW})
    assert agent.maps.identities[slot] == WEB


async def test_after_a_restart_the_former_policy_holds_until_the_new_one_is_known() -> None:
    agent = Agent(FakePolicyMaps({1: (WEB, left({port(): ALLOW}))}))
    async with running(*agent.loops):
        assert agent.reconciler.ensure(WEB) == 1
        assert agent.reconciler.in_force(WEB)
        await turns()
        assert (agent.in_force(WEB), agent.prepared) == ({port(): ALLOW}, 0)
        agent.resolve(7, web={port(): ALLOW, port(81, 500): ALLOW})
        await until(lambda: agent.reconciler.realised == {WEB: 7})
    assert agent.prepared == 1
    assert agent.in_force(WEB) == {port(): ALLOW, port(81, 500): ALLOW}


async def test_after_a_restart_slots_of_identities_that_live_here_no_more_are_freed() -> None:
    agent = Agent(FakePolicyMaps({1: (WEB, left({port(): ALLOW})), 2: (DB, left(many(3)))}))
    async with running(*agent.loops):
        agent.reconciler.ensure(WEB)
        await until(lambda: agent.reconciler.slots_in_use == 1)
        await until(lambda: agent.maps.kernel.count() == 1)


async def test_what_an_agent_left_in_the_other_set_when_it_died_is_removed() -> None:
    agent = Agent(FakePolicyMaps({1: (WEB, left({port(): ALLOW}, many(3)))}))
    async with running(*agent.loops):
        agent.reconciler.ensure(WEB)
        agent.resolve(7, web={port(): ALLOW})
        await until(lambda: agent.maps.kernel.count() == 1)
    assert agent.reconciler.entries == 1


async def test_a_wait_for_realisation_ends_when_the_policy_is_in_force() -> None:
    agent = Agent()
    async with running(*agent.loops):
        agent.reconciler.ensure(WEB)
        waiting = asyncio.create_task(agent.reconciler.wait_realised(WEB, Revision(5)))
        agent.resolve(4, web={})
        await turns()
        assert not waiting.done(), "an identity without rows may be one that policy hasn't met"
        agent.resolve(5, web={})
        async with asyncio.timeout(30):
            await waiting


async def test_a_wait_for_realisation_ends_at_once_for_an_identity_that_has_rows() -> None:
    agent = Agent()
    async with running(*agent.loops), asyncio.timeout(30):
        agent.reconciler.ensure(WEB)
        agent.resolve(4, web={port(): ALLOW})
        await agent.reconciler.wait_realised(WEB, Revision(5))
    assert agent.in_force(WEB) == {port(): ALLOW}


async def test_a_wait_for_a_policy_that_never_fitted_fails() -> None:
    agent = Agent(FakePolicyMaps(capacity=3))
    async with running(*agent.loops), asyncio.timeout(30):
        agent.reconciler.ensure(WEB)
        agent.resolve(4, web=many(5))
        with pytest.raises(PolicyDoesNotFit, match="5 entries wanted, 3 free"):
            await agent.reconciler.wait_realised(WEB, Revision(4))


async def test_a_revision_is_reached_when_all_that_live_here_have_it_in_force() -> None:
    agent = Agent()
    async with running(*agent.loops):
        for identity in (WEB, DB):
            agent.reconciler.ensure(identity)
        waiting = asyncio.create_task(agent.reconciler.wait_reached(Revision(5)))
        agent.resolve(5, web={port(): ALLOW})
        await turns()
        assert not waiting.done()
        agent.resolve(6, db={})
        async with asyncio.timeout(30):
            await waiting


async def test_a_revision_is_reached_without_an_identity_that_ceases_to_live_here() -> None:
    agent = Agent()
    async with running(*agent.loops), asyncio.timeout(30):
        agent.reconciler.ensure(WEB)
        waiting = asyncio.create_task(agent.reconciler.wait_reached(Revision(5)))
        await turns()
        agent.reconciler.release(WEB)
        await waiting


async def test_heirs_get_the_verdicts_of_others_where_there_is_room() -> None:
    agent = Agent(FakePolicyMaps({1: (WEB, left({port(80, 9): ALLOW})), 2: (DB, left(many(3)))}, capacity=5))
    agent.reconciler.inherit({Identity(70): Identity(9)})
    assert agent.maps.in_force(1) == {port(80, 9): ALLOW, port(80, 70): ALLOW}
    assert agent.reconciler.entries == 5
    agent.reconciler.inherit({Identity(71): Identity(9)})
    assert port(80, 71) not in agent.maps.in_force(1)
