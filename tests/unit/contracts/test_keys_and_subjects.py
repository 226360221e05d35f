"""Keys in etcd and subjects on the bus: one place each, and the way back from them."""

import fnmatch
import inspect
import re
from itertools import combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.contracts import keys as keys_module
from cilia.contracts import subjects as subjects_module
from cilia.contracts.ids import EndpointId, Identity, NodeName
from cilia.contracts.keys import Keys
from cilia.contracts.labels import Label, canonical, from_canonical
from cilia.contracts.subjects import EVERY_SHARD, Subjects
from cilia.contracts.tables import ENDPOINTS, NODES, policy_object_key

KEYS, OTHER = Keys("shop"), Keys("shop2")
NODE = NodeName("node1")
SUBJECTS = Subjects("shop")
names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)

EVERY_KEY = {
    KEYS.epoch: "cilia/v1/shop/epoch",
    KEYS.node(NODE): "cilia/v1/shop/nodes/node1",
    KEYS.pool("default"): "cilia/v1/shop/ipam/pools/default",
    KEYS.block("default", "10.244.0.0/26"): "cilia/v1/shop/ipam/blocks/default/10.244.0.0-26",
    KEYS.block("six", "fd00:10::/64"): "cilia/v1/shop/ipam/blocks/six/fd00:10::-64",
    KEYS.former_grant(NODE): "cilia/v1/shop/ipam/held/node1",
    KEYS.identity(Identity(4711)): "cilia/v1/shop/identities/id/4711",
    KEYS.identity_value("k8s:app=web;"): "cilia/v1/shop/identities/value/k8s:app=web;",
    KEYS.identity_ref(Identity(4711), "node1"): "cilia/v1/shop/identities/ref/4711/node1",
    KEYS.identity_unused(Identity(4711)): "cilia/v1/shop/identities/unused/4711",
    KEYS.endpoint(NODE, EndpointId(7)): "cilia/v1/shop/endpoints/node1/7",
    KEYS.policy("NetworkPolicy/shop/web"): "cilia/v1/shop/policies/NetworkPolicy/shop/web",
    KEYS.policy_cause: "cilia/v1/shop/policy-cause",
    KEYS.policy_revision("0017-abc"): "cilia/history/v1/shop/policies/0017-abc",
    KEYS.flows + "0017-abc": "cilia/flows/v1/shop/0017-abc",
    KEYS.flow_summary: "cilia/flows/v1/shop/summary",
    KEYS.leader("ipam"): "cilia/v1/shop/leaders/ipam",
}
PREFIXES = (
    KEYS.nodes,
    KEYS.pools,
    KEYS.blocks,
    KEYS.former_grants,
    KEYS.identities,
    KEYS.identity_values,
    KEYS.identity_refs,
    KEYS.identities_unused,
    KEYS.endpoints,
    KEYS.policies,
    KEYS.leaders,
    KEYS.policy_revisions,
    KEYS.flows,
)


@pytest.mark.parametrize(("key", "text"), EVERY_KEY.items(), ids=EVERY_KEY.values())
def test_keys_are_where_a_former_version_left_them(key: str, text: str) -> None:
    assert key == text


def test_no_prefix_holds_the_keys_of_another() -> None:
    assert [pair for pair in permutations(PREFIXES, 2) if pair[0].startswith(pair[1])] == []


def test_history_and_flows_are_outside_of_what_is_mirrored() -> None:
    assert not KEYS.policy_revisions.startswith(KEYS.root)
    assert not KEYS.flows.startswith(KEYS.root)
    inside = set(PREFIXES) - {KEYS.policy_revisions, KEYS.flows}
    assert all(prefix.startswith(KEYS.root) for prefix in inside)


def test_a_cluster_never_sees_the_keys_of_one_whose_name_begins_alike() -> None:
    assert not OTHER.node(NODE).startswith(KEYS.root)
    assert not OTHER.flows.startswith(KEYS.flows)
    assert not OTHER.policy_revisions.startswith(KEYS.policy_revisions)


@given(node=names, number=st.integers(1, 65_535))
def test_an_endpoints_key_names_its_node_and_number(node: str, number: int) -> None:
    key = KEYS.endpoint(NodeName(node), EndpointId(number))
    assert key.removeprefix(KEYS.endpoints).split("/") == [node, str(number)]


@given(
    pool=names, cidr=st.ip_addresses().flatmap(lambda ip: st.integers(0, ip.max_prefixlen).map(lambda n: f"{ip}/{n}"))
)
def test_a_blocks_key_names_its_pool_and_prefix(pool: str, cidr: str) -> None:
    found, _, block = KEYS.block(pool, cidr).removeprefix(KEYS.blocks).partition("/")
    address, _, length = block.rpartition("-")
    assert (found, f"{address}/{length}") == (pool, cidr)


@given(number=st.integers(0, (1 << 32) - 1), holder=names)
def test_a_references_key_names_identity_and_holder(number: int, holder: str) -> None:
    found = KEYS.identity_ref(Identity(number), holder).removeprefix(KEYS.identity_refs)
    assert found.split("/") == [str(number), holder]
    assert KEYS.identity_ref(Identity(number), holder).startswith(f"{KEYS.identity_refs}{number}/")


@given(kind=names, namespace=names | st.just(""), name=names)
def test_a_policys_key_is_the_key_of_its_object(kind: str, namespace: str, name: str) -> None:
    key = KEYS.policy(policy_object_key(kind, namespace, name))
    assert key.removeprefix(KEYS.policies).split("/") == [kind, namespace, name]


@given(value=st.text("abc=:/.-", max_size=10))
def test_a_label_sets_key_gives_the_label_set_back(value: str) -> None:
    labels = frozenset({Label("k8s", "app", value), Label("k8s", "tier", "x/y")})
    key = KEYS.identity_value(canonical(labels))
    assert from_canonical(key.removeprefix(KEYS.identity_values)) == labels


EVERY_SUBJECT = {
    SUBJECTS.delta(NODES, "all"): "cilia.v1.shop.delta.nodes.all",
    SUBJECTS.delta(NODES): "cilia.v1.shop.delta.nodes.*",
    SUBJECTS.delta_batch(ENDPOINTS, "node1"): "cilia.v1.shop.delta-batch.endpoints.node1",
    SUBJECTS.beacon(ENDPOINTS): "cilia.v1.shop.beacon.endpoints",
    SUBJECTS.snapshot(ENDPOINTS, EVERY_SHARD): "cilia.v1.shop.snapshot.endpoints._",
    SUBJECTS.snapshot(ENDPOINTS): "cilia.v1.shop.snapshot.endpoints.*",
    SUBJECTS.request("policy", "apply"): "cilia.v1.shop.request.policy.apply",
    SUBJECTS.request("policy"): "cilia.v1.shop.request.policy.*",
    SUBJECTS.node(NODE, "status"): "cilia.v1.shop.node.node1.status",
    SUBJECTS.node(NODE): "cilia.v1.shop.node.node1.*",
    SUBJECTS.ack(): "cilia.v1.shop.ack.*",
    SUBJECTS.ack("node1"): "cilia.v1.shop.ack.node1",
    SUBJECTS.flow(): "cilia.v1.shop.flow.*",
    SUBJECTS.flow("node1"): "cilia.v1.shop.flow.node1",
    SUBJECTS.shadow(): "cilia.v1.shop.shadow",
}


@pytest.mark.parametrize(("subject", "text"), EVERY_SUBJECT.items(), ids=EVERY_SUBJECT.values())
def test_subjects_are_what_a_former_version_listens_to(subject: str, text: str) -> None:
    assert subject == text


def test_a_subscription_to_all_hears_each_and_nothing_of_another_kind() -> None:
    wild = [subject for subject in EVERY_SUBJECT if subject.endswith("*")]
    exact = [subject for subject in EVERY_SUBJECT if not subject.endswith("*")]
    for subject in exact:
        heard_by = [each for each in wild if _matches(each, subject)]
        parent = subject.rpartition(".")[0] + ".*"
        assert heard_by == [each for each in wild if each == parent], subject


def test_no_two_kinds_share_a_subject() -> None:
    assert [pair for pair in combinations(EVERY_SUBJECT, 2) if pair[0] == pair[1]] == []


@given(cluster=names, node=names, call=names)
def test_a_call_to_a_node_has_tokens_that_name_it(cluster: str, node: str, call: str) -> None:
    assert Subjects(cluster).node(NodeName(node), call).split(".") == ["cilia", "v1", cluster, "node", node, call]


@pytest.mark.parametrize(
    ("module", "owner", "texts"),
    [(keys_module, Keys, EVERY_KEY.values()), (subjects_module, Subjects, EVERY_SUBJECT.values())],
    ids=["keys", "subjects"],
)
def test_the_table_in_the_docstring_has_every_one(module: object, owner: type, texts: list[str]) -> None:
    documented = re.sub(r"``\s*\n", "``\n", inspect.getdoc(module) or "")
    joined = re.sub(r"policies/\s+.*\n", "policies/", documented)
    root = "cilia/v1/shop" if owner is Keys else "cilia.v1.shop"
    patterns = [
        re.sub(r"<[a-z]+>", "*", found.replace("<root>", root).replace("<cluster>", "shop"))
        for found in re.findall(r"``([^`]+?)``", joined)
    ]
    for text in texts:
        assert any(fnmatch.fnmatch(text.replace("*", "x"), pattern) for pattern in patterns), text


def _matches(pattern: str, subject: str) -> bool:
    wanted, found = pattern.split("."), subject.split(".")
    return len(wanted) == len(found) and all(one in ("*", other) for one, other in zip(wanted, found, strict=True))
