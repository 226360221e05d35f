"""A change that was tried is in force as it was tried, if nothing else comes first."""

import pytest

from cilia.contracts.explanations import ExplainFlow, PeerSelector
from cilia.contracts.ids import EndpointId, Identity, NodeName
from cilia.contracts.keys import Cause
from cilia.contracts.tables import EndpointKey, PolicyObject
from cilia.errors import Refused
from cilia.policy.engine.options import Mode
from cilia.policy.language.enforcement import KEY as ENFORCEMENT
from cilia.policy.language.enforcement import Enforcement
from services.policy.resolution.events import CauseEvent, EndpointEvent, IdentityEvent, PolicyEvent
from services.policy.resolution.resolver import EngineResolver
from services.policy.resolution.trial import DesiredPolicies
from tests.unit.policy.service.changes_of import endpoint, identity, key, new_resolver, outside, outsiders, policy

WEB, DB, PEER = Identity(300), Identity(301), Identity(302)
CHANGE: DesiredPolicies = {key("db"): policy("db", "db", 80, 443)}


@pytest.fixture
def resolver() -> EngineResolver:
    found = new_resolver()
    found.load([identity(300, "k8s:app=web"), identity(301, "k8s:app=db"), identity(302, "k8s:role=peer")])
    return found


def events_of(change: DesiredPolicies) -> list[PolicyEvent]:
    return [PolicyEvent(name, row) for name, row in change.items()]


def rows(resolver: EngineResolver) -> dict[str, object]:
    return {shard: dict(found) for shard, found in resolver.rows.items()}


def counts(resolver: EngineResolver) -> tuple[int, int, int]:
    """Return resolutions, trials adopted and trials dropped."""
    counters = resolver.counters
    return counters.resolutions, counters.trials_adopted, counters.trials_dropped


def resolved_alone(change: DesiredPolicies) -> EngineResolver:
    """Return a replica that took the change from etcd only."""
    other = new_resolver()
    other.load([identity(300, "k8s:app=web"), identity(301, "k8s:app=db"), identity(302, "k8s:role=peer")])
    other.take(events_of(change))
    return other


def test_a_change_that_was_tried_costs_one_resolution(resolver: EngineResolver) -> None:
    resolver.try_sizes(CHANGE)
    cause = CauseEvent(Cause("", 1))
    difference = resolver.take([*events_of(CHANGE), cause])
    assert counts(resolver) == (1, 1, 0)
    other = resolved_alone(CHANGE)
    assert rows(resolver) == rows(other)
    assert {name for name, entry in difference.items() if entry is not None} == {
        name for name in resolver.rows[str(DB)] if name.key.identity or not name.key.egress
    }


def test_a_replica_that_did_not_try_it_resolves_it_once(resolver: EngineResolver) -> None:
    resolver.take(events_of(CHANGE))
    assert counts(resolver) == (1, 0, 0)


def test_what_a_trial_tells_is_what_comes(resolver: EngineResolver) -> None:
    sizes = resolver.try_sizes(CHANGE)
    assert sizes.before == {DB: len(resolved_alone({}).rows[str(DB)])}
    resolver.take(events_of(CHANGE))
    assert sizes.after == {DB: len(resolver.rows[str(DB)])} == {DB: resolver.size(DB)}


def test_revisions_without_facts_leave_a_trial_alone(resolver: EngineResolver) -> None:
    resolver.try_sizes(CHANGE)
    assert resolver.take([]) == resolver.take([CauseEvent(Cause("", 1))]) == {}
    resolver.take(events_of(CHANGE))
    assert counts(resolver) == (1, 1, 0)


@pytest.mark.parametrize(
    "first",
    [
        [PolicyEvent(key("web"), policy("web", "web", 80))],
        [PolicyEvent(key("db"), policy("db", "db", 81))],
        [PolicyEvent(key("db"), None)],
        [*events_of(CHANGE), PolicyEvent(key("web"), policy("web", "web", 80))],
        [*events_of(CHANGE), identity(303, "k8s:role=peer")],
        [identity(303, "k8s:role=peer")],
        [IdentityEvent(PEER, None)],
        [endpoint("n1", 1, 301)],
        [EndpointEvent(EndpointKey(NodeName("n1"), EndpointId(9)), None)],
    ],
    ids=[
        "another policy",
        "the same policy otherwise",
        "the policy's removal",
        "more policies",
        "the change with an identity",
        "an identity",
        "an identity's end",
        "an endpoint",
        "an endpoint's end",
    ],
)
def test_whatever_else_comes_first_has_the_trial_taken_back(
    resolver: EngineResolver, first: list[PolicyEvent | IdentityEvent | EndpointEvent]
) -> None:
    resolver.try_sizes(CHANGE)
    alone = resolved_alone({})
    assert resolver.take(first) == alone.take(first)
    assert resolver.counters.trials_dropped == 1
    assert rows(resolver) == rows(alone)
    assert resolver.take(events_of(CHANGE)) == alone.take(events_of(CHANGE))
    assert rows(resolver) == rows(alone)
    assert resolver.counters.trials_adopted == 0


def test_a_refused_change_leaves_no_trace(resolver: EngineResolver) -> None:
    before = rows(resolver)
    resolver.try_sizes(CHANGE)
    resolver.drop_trial(CHANGE)
    assert rows(resolver) == before
    assert counts(resolver) == (1, 0, 1)


def test_only_the_trial_under_way_can_be_dropped(resolver: EngineResolver) -> None:
    resolver.try_sizes(CHANGE)
    resolver.drop_trial({key("web"): None})
    resolver.take(events_of(CHANGE))
    assert counts(resolver) == (1, 1, 0)


OTHER: DesiredPolicies = {key("more"): policy("more", "db", 80, 81, 82)}


def test_changes_that_are_under_way_at_once_cost_one_resolution_each(resolver: EngineResolver) -> None:
    first = resolver.try_sizes(CHANGE)
    second = resolver.try_sizes(OTHER)
    assert second.before == first.after
    alone = resolved_alone({})
    for change in (CHANGE, OTHER):
        assert resolver.take(events_of(change)) == alone.take(events_of(change))
    assert counts(resolver) == (2, 2, 0)
    assert second.after == {DB: resolver.size(DB)}
    assert rows(resolver) == rows(alone)


def test_changes_that_come_in_another_order_than_tried_are_resolved_anew(resolver: EngineResolver) -> None:
    resolver.try_sizes(CHANGE)
    resolver.try_sizes(OTHER)
    alone = resolved_alone({})
    for change in (OTHER, CHANGE):
        assert resolver.take(events_of(change)) == alone.take(events_of(change))
    assert counts(resolver) == (4, 0, 2)
    assert rows(resolver) == rows(alone)


def test_a_change_that_is_given_up_takes_those_tried_on_top_of_it_along(resolver: EngineResolver) -> None:
    last: DesiredPolicies = {key("web"): policy("web", "web", 80)}
    for change in (CHANGE, OTHER, last):
        resolver.try_sizes(change)
    resolver.drop_trial(OTHER)
    assert counts(resolver) == (3, 0, 2)
    alone = resolved_alone({})
    for change in (CHANGE, last):
        assert resolver.take(events_of(change)) == alone.take(events_of(change))
    assert counts(resolver) == (4, 1, 2)
    assert rows(resolver) == rows(alone)


CIDRS: DesiredPolicies = {key("cidrs"): outsiders("cidrs", "db", "192.0.2.0/24", "198.51.100.0/25")}
OUTSIDE = (outside(1, "192.0.2.0/24"), outside(2, "198.51.100.0/25"))


def test_a_change_whose_prefixes_have_identities_costs_one_resolution(resolver: EngineResolver) -> None:
    resolver.take(OUTSIDE)
    resolver.try_sizes(CIDRS)
    resolver.take(events_of(CIDRS))
    assert counts(resolver) == (1, 1, 0)
    alone = resolved_alone({})
    alone.take(OUTSIDE)
    alone.take(events_of(CIDRS))
    assert rows(resolver) == rows(alone)


def test_prefixes_without_an_identity_count_in_a_trial_and_leave_no_trace(resolver: EngineResolver) -> None:
    before = rows(resolver)
    resolver.take(OUTSIDE[:1])
    sizes = resolver.try_sizes(CIDRS)
    resolver.drop_trial(CIDRS)
    assert rows(resolver) == before
    resolver.take(OUTSIDE[1:])
    resolver.take(events_of(CIDRS))
    assert sizes.after == {DB: resolver.size(DB)}


def test_no_provisional_identity_comes_in_force(resolver: EngineResolver) -> None:
    alone = resolved_alone({})
    resolver.try_sizes(CIDRS)
    assert resolver.take(events_of(CIDRS)) == alone.take(events_of(CIDRS))
    assert counts(resolver) == (2, 0, 1)
    assert resolver.take(OUTSIDE) == alone.take(OUTSIDE)
    assert {name.key.identity for name in resolver.rows[str(DB)]} >= {each.identity for each in OUTSIDE}
    assert rows(resolver) == rows(alone)


def test_trying_the_same_again_costs_nothing(resolver: EngineResolver) -> None:
    resolver.try_sizes(CHANGE)
    assert resolver.try_sizes(dict(CHANGE)).after.keys() == {DB}
    assert resolver.try_cookies(CHANGE, DB).total() == resolver.try_sizes(CHANGE).after[DB]
    assert counts(resolver) == (1, 0, 0)


def test_readers_never_see_a_trial(resolver: EngineResolver) -> None:
    before = rows(resolver)
    resolver.try_sizes(CHANGE)
    assert set(resolver.rows) == set(before)
    assert rows(resolver) == before
    resolver.try_sizes(CHANGE)
    explained = resolver.explain(ExplainFlow(PeerSelector(str(WEB)), PeerSelector(str(DB)), "80/TCP"))
    assert explained.allowed
    assert resolver.counters.trials_dropped == 2


def test_a_transaction_that_was_lost_is_tried_again_on_what_came_instead(resolver: EngineResolver) -> None:
    resolver.try_sizes(CHANGE)
    winner = {key("db"): policy("db", "db", 9000)}
    resolver.take(events_of(winner))
    resolver.try_sizes(CHANGE)
    resolver.take(events_of(CHANGE))
    assert resolver.counters.trials_adopted == 1
    assert rows(resolver) == rows(resolved_alone(CHANGE))


def test_the_enforcement_mode_is_tried_and_taken_back_like_a_policy(resolver: EngineResolver) -> None:
    document = Enforcement(Mode.ALWAYS).document
    change: DesiredPolicies = {ENFORCEMENT: PolicyObject("CiliaEnforcement", "", "cluster", document)}
    before = rows(resolver)
    before_web = resolver.size(WEB)
    assert resolver.try_sizes(change).after[WEB] < before_web
    resolver.drop_trial(change)
    assert rows(resolver) == before
    resolver.try_sizes(change)
    resolver.take(events_of(change))
    assert resolver.counters.trials_adopted == 1
    assert rows(resolver) == rows(resolved_alone(change))


def test_a_restart_forgets_the_trial(resolver: EngineResolver) -> None:
    resolver.try_sizes(CHANGE)
    resolver.clear()
    resolver.load([identity(301, "k8s:app=db")])
    assert resolver.size(DB) == len(resolver.rows[str(DB)])
    resolver.take(events_of(CHANGE))
    assert counts(resolver) == (2, 0, 0)


def test_a_stored_text_that_this_version_refuses_opens_nothing(resolver: EngineResolver) -> None:
    resolver.take(events_of(CHANGE))
    closed = resolver.take([PolicyEvent(key("db"), PolicyObject("CiliumNetworkPolicy", "x", "db", "{}"))])
    assert all(entry is None or not name.key.identity for name, entry in closed.items())


def test_an_unknown_party_of_a_flow_is_refused_by_name(resolver: EngineResolver) -> None:
    with pytest.raises(Refused, match="'moon'"):
        resolver.explain(ExplainFlow(PeerSelector("moon"), PeerSelector(str(DB)), "80/TCP"))


def test_a_pod_goes_by_its_namespace_and_name(resolver: EngineResolver) -> None:
    event = endpoint("n1", 1, 301)
    assert event.row is not None
    resolver.take([event])
    name = f"{event.row.namespace}/{event.row.name}"
    explained = resolver.explain(ExplainFlow(PeerSelector(str(WEB)), PeerSelector(name), "80/TCP"))
    assert explained.destination == name
