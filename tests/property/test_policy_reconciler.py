"""Policy of a node after any order of changes, releases and grace periods is the resolved one."""

import asyncio
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from cilia.contracts.ids import Identity
from tests.unit.agent.loops import running, until
from tests.unit.agent.policy.fake_maps import FakePolicyMaps
from tests.unit.agent.policy.test_reconciler import ALLOW, DB, DENY, OTHER, WEB, Agent, Entries, left, port
from tests.unit.agent.tables import turns

IDENTITIES = {"web": WEB, "db": DB, "other": OTHER}
name = st.sampled_from(sorted(IDENTITIES))
entries = st.dictionaries(
    st.builds(port, st.integers(80, 83), st.sampled_from((0, 400, 401))), st.sampled_from((ALLOW, DENY)), max_size=4
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("ensure"), name),
        st.tuples(st.just("release"), name),
        st.tuples(st.just("resolve"), st.dictionaries(name, entries, min_size=1)),
        st.tuples(st.just("grace"), st.booleans()),
        st.tuples(st.just("run"), st.integers(1, 8)),
    ),
    max_size=14,
)


async def play(history: list[tuple[str, object]], before: Entries, capacity: int) -> Agent:
    """Play a history, then let every grace period end; check each slot on the way by the model."""
    agent = Agent(FakePolicyMaps({3: (WEB, left(before))} if before else None, capacity=capacity))
    resolved: dict[str, Entries] = {}
    sequence = 0
    async with running(*agent.loops):
        for kind, argument in history:
            match kind, argument:
                case "ensure", str(who):
                    agent.reconciler.ensure(IDENTITIES[who])
                case "release", str(who):
                    agent.reconciler.release(IDENTITIES[who])
                case "resolve", dict(policies):
                    sequence += 1
                    resolved |= policies
                    agent.resolve(sequence, **policies)
                case "grace", True:
                    agent.grace.set()
                case "grace", False:
                    agent.grace.clear()
                case "run", int(count):
                    await turns(count)
        agent.grace.set()
        agent.resolve(sequence + 1, **{who: resolved.get(who, {}) for who in IDENTITIES})
        for who, identity in IDENTITIES.items():
            if str(identity) in agent.table.interest:
                await until(partial(_is_settled, agent, identity, resolved.get(who, {})))
        await until(lambda: not agent.reconciler.cleanups.busy)
        await turns()
    return agent


def _is_settled(agent: Agent, identity: Identity, wanted: Entries) -> bool:
    return identity in agent.reconciler.refused or agent.in_force(identity) == wanted


@settings(max_examples=60, deadline=None)
@given(steps, entries)
def test_with_room_each_identity_has_its_policy_and_nothing_else_is_left(
    history: list[tuple[str, object]], before: Entries
) -> None:
    agent = asyncio.run(play(history, before, capacity=100))
    assert agent.reconciler.refused == {}
    kept = sum(len(agent.in_force(identity)) for identity in IDENTITIES.values())
    assert agent.maps.kernel.count() == agent.reconciler.entries == kept
    living = {identity for identity in IDENTITIES.values() if identity in map(int, agent.table.interest)}
    assert {identity for identity in agent.maps.identities.values() if identity} == living


@settings(max_examples=60, deadline=None)
@given(steps, entries, st.integers(4, 8))
def test_without_room_nothing_exceeds_the_map_and_who_is_refused_would_not_fit(
    history: list[tuple[str, object]], before: Entries, capacity: int
) -> None:
    agent = asyncio.run(play(history, before, capacity))
    assert agent.maps.kernel.count() == agent.reconciler.entries <= capacity
    free = capacity - agent.reconciler.entries
    assert all(refusal.wanted > free for refusal in agent.reconciler.refused.values())
