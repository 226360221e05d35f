"""Proofs of proposals: the engine says what they keep, lose and open."""

import pytest

from cilia.contracts.flows import PolicyVerdict
from cilia.policy.observed import proof
from cilia.policy.observed.proof import ProbedFlow, generate
from cilia.policy.observed.proposal import WorkloadFilter
from tests.unit.policy.observed.test_proposal import ALL, GRE, HOST, TCP, flow, outside, pod

DENIED = PolicyVerdict.DENIED


def test_what_was_allowed_is_kept_and_all_else_that_is_tried_is_refused() -> None:
    found = generate(
        [flow(pod("web"), pod("db"), 5432), flow(pod("web"), pod("db"), 22, verdict=DENIED)], ALL, max_prefixes=5
    )
    assert found.proof.is_exact
    assert found.proof.kept == 2
    assert found.proof.refused > 2
    assert {each["metadata"]["name"] for each in found.policies} == {"web", "db"}


def test_copies_that_were_treated_alike_share_a_policy_without_their_own_labels() -> None:
    copies = [pod("web", f"k8s:pod-template-hash={number}") for number in range(3)]
    found = generate([flow(copy, pod("db")) for copy in copies], ALL, max_prefixes=5)
    assert found.proof.is_exact
    assert len(found.policies) == 2


def test_copies_that_were_treated_differently_are_told_apart_by_the_labels_of_copies() -> None:
    old, new = (pod("web", f"k8s:app.kubernetes.io/version={number}") for number in (1, 2))
    flows = [flow(old, pod("db")), flow(new, pod("db"), verdict=DENIED), flow(new, pod("db"), 9000)]
    found = generate(flows, ALL, max_prefixes=5)
    assert found.proof.is_exact
    assert "app.kubernetes.io/version" in str(found.policies)


def test_what_no_rule_can_name_is_lost_and_said_so_with_side_and_port() -> None:
    found = generate([flow(pod("web"), pod("db"), 0, TCP), flow(pod("web"), pod("db"), 80)], ALL, max_prefixes=5)
    assert not found.proof.is_exact
    assert {each.side for each in found.proof.lost} == {"egress", "ingress"}
    assert {(each.source, each.destination) for each in found.proof.lost} == {("shop/web", "shop/db")}
    assert found.proof.kept == 2


def test_many_addresses_that_become_the_world_are_counted_as_opened_and_some_are_listed() -> None:
    flows = [flow(outside(f"192.0.2.{2 * number}"), pod("web")) for number in range(30)]
    flows += [flow(outside(f"198.51.100.{number}"), pod("web"), verdict=DENIED) for number in range(1, 30)]
    found = generate(flows, ALL, max_prefixes=3)
    assert (found.proof.opened_count, len(found.proof.opened)) == (29, proof.MAX_OPENED_LISTED)
    assert found.proof.opened[0] == ProbedFlow("198.51.100.1", "shop/web", "80/TCP", "ingress")
    assert generate(flows, ALL, max_prefixes=40).proof.is_exact


def test_a_protocol_without_ports_is_proven_like_any() -> None:
    assert generate([flow(pod("a"), pod("b"), 0, GRE)], ALL, max_prefixes=1).proof.kept == 2


def test_nodes_reach_their_pods_whatever_is_proposed_and_nobody_counts_that() -> None:
    found = generate([flow(HOST, pod("web")), flow(pod("job"), pod("web"))], ALL, max_prefixes=1)
    assert (found.proof.lost, found.proof.opened_count) == ((), 0)


def test_only_the_sides_of_wanted_workloads_are_proven() -> None:
    found = generate([flow(pod("web"), pod("db"))], WorkloadFilter(workload="shop/db"), max_prefixes=1)
    assert (found.proof.kept, len(found.policies)) == (1, 1)


def test_no_flows_give_no_policies_and_a_proof_of_nothing() -> None:
    found = generate([], ALL, max_prefixes=1)
    assert (found.policies, found.proof.kept, found.proof.refused, found.proof.is_exact) == ((), 0, 0, True)


def test_probes_beyond_the_limit_are_spread_over_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    flows = [flow(pod(f"a{number}"), pod("db"), 80 + number) for number in range(12)]
    every = generate(flows, ALL, max_prefixes=1).proof.refused
    monkeypatch.setattr(proof, "MAX_PROBES", 200)
    some = generate(flows, ALL, max_prefixes=1).proof
    assert some.is_exact
    assert 0 < some.refused < every
