"""Labels and label sets: what they are read from, and the one text that each set has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.contracts.labels import (
    BadLabel,
    Label,
    Labels,
    canonical,
    from_canonical,
    named_port_labels,
    node,
    parse_labels,
    workload,
)

words = st.text(st.characters(exclude_characters=";:=", exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)
values = st.text(st.characters(exclude_characters=";", exclude_categories=("Cs", "Cc")), max_size=8)
labels = st.builds(Label, words, words, values)
label_sets = st.frozensets(labels, max_size=5)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("app=web", ("k8s", "app", "web")),
        ("app", ("k8s", "app", "")),
        ("app=", ("k8s", "app", "")),
        ("k8s:app=web", ("k8s", "app", "web")),
        ("reserved:host", ("reserved", "host", "")),
        ("cidr:10.0.0.0/8", ("cidr", "10.0.0.0/8", "")),
        ("node:zone=a", ("node", "zone", "a")),
        ("app=a=b", ("k8s", "app", "a=b")),
        ("app=a:b", ("k8s", "app", "a:b")),
        ("any:io.kubernetes/x=y", ("any", "io.kubernetes/x", "y")),
        ("a:b:c=d", ("a", "b:c", "d")),
    ],
)
def test_a_label_is_source_key_and_value(text: str, label: tuple[str, str, str]) -> None:
    assert Label.parse(text) == label


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the key is empty"),
        ("=web", "the key is empty"),
        ("k8s:", "the key is empty"),
        ("k8s:=web", "the key is empty"),
        (":app=web", "the source is empty"),
        ("app=a;b", "';' separates labels"),
        (";", "';' separates labels"),
    ],
)
def test_what_is_no_label_is_refused_with_its_text_and_the_reason(text: str, reason: str) -> None:
    with pytest.raises(BadLabel, match=reason) as caught:
        Label.parse(text)
    assert caught.value.text == text
    assert repr(text) in str(caught.value)


@given(labels)
def test_a_label_reads_as_it_was_written(label: Label) -> None:
    assert Label.parse(str(label)) == label


@given(label_sets)
def test_a_label_set_reads_as_its_canonical_text_was_written(some: Labels) -> None:
    assert from_canonical(canonical(some)) == some


@given(st.lists(labels, max_size=6), st.randoms())
def test_the_canonical_text_knows_no_order_of_the_labels(some: list[Label], chance: object) -> None:
    other = list(some)
    chance.shuffle(other)  # type: ignore[attr-defined]
    assert canonical(frozenset(some)) == canonical(frozenset(other))
    assert canonical(set(some)).count(";") == len(set(some))


@given(label_sets, label_sets)
def test_different_label_sets_have_different_texts(one: Labels, other: Labels) -> None:
    assert (canonical(one) == canonical(other)) == (one == other)


def test_the_canonical_text_is_ciliums() -> None:
    some = parse_labels(["tier=db", "reserved:init", "k8s:app=web", "container:id="])
    assert canonical(some) == "container:id=;k8s:app=web;k8s:tier=db;reserved:init=;"
    assert canonical(()) == ""
    assert from_canonical("") == frozenset()


@given(st.lists(labels, max_size=5, unique_by=lambda label: (label.source, label.key)))
def test_labels_are_read_in_any_order_and_number(some: list[Label]) -> None:
    assert parse_labels(map(str, some)) == frozenset(some)
    assert parse_labels([*map(str, some), *map(str, reversed(some))]) == frozenset(some), "twice the same is once"


@pytest.mark.parametrize(
    ("texts", "key"),
    [(("app=a", "app=b"), "app"), (("k8s:app=a", "app=b"), "app"), (("app", "app=b"), "app")],
)
def test_one_key_has_one_value(texts: tuple[str, ...], key: str) -> None:
    with pytest.raises(BadLabel, match="the key already has the value") as caught:
        parse_labels(texts)
    assert key in caught.value.text


def test_the_same_key_of_two_sources_are_two_labels() -> None:
    assert len(parse_labels(["k8s:app=a", "container:app=b"])) == 2


def test_a_workload_has_its_labels_its_namespaces_labels_and_the_namespace() -> None:
    assert sorted(map(str, workload("shop", {"app": "web"}, {"team": "a"}))) == [
        "k8s:app=web",
        "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=shop",
        "k8s:io.cilium.k8s.namespace.labels.team=a",
        "k8s:io.kubernetes.pod.namespace=shop",
    ]


def test_workloads_of_two_namespaces_are_never_the_same() -> None:
    assert workload("shop", {"app": "web"}) != workload("lab", {"app": "web"})
    assert workload("shop", {}) == workload("shop", {}, {}) == workload("shop", {}, None)


def test_a_namespace_may_say_its_own_name() -> None:
    renamed = workload("shop", {}, {"kubernetes.io/metadata.name": "other"})
    assert "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=other" in map(str, renamed)
    assert "k8s:io.kubernetes.pod.namespace=shop" in map(str, renamed)


def test_a_node_with_labels_is_a_remote_node_with_them() -> None:
    assert sorted(map(str, node(["zone=a", "rack=7"]))) == ["node:rack=7", "node:zone=a", "reserved:remote-node"]
    assert node([]) == frozenset(), "one without has the identity of all nodes"
    with pytest.raises(BadLabel):
        node(["zone=a", "zone=b"])


@pytest.mark.parametrize(
    "key",
    [
        "io.kubernetes.pod.namespace",
        "io.cilium.k8s.namespace.labels.team",
        "io.cilium.k8s.policy.cluster",
        "io.cilium.k8s.policy.serviceaccount",
    ],
)
def test_a_workload_cant_give_itself_what_the_platform_says_of_it(key: str) -> None:
    with pytest.raises(BadLabel, match="only the platform") as caught:
        workload("shop", {"app": "web", key: "red"})
    assert caught.value.text == f"{key}=red"


def test_a_workloads_source_is_never_its_own_choice() -> None:
    made = workload("shop", {"reserved:host": "", "named-port:http/TCP/80": ""})
    assert {label.source for label in made} == {"k8s"}


def test_pods_that_name_their_ports_otherwise_have_other_label_sets() -> None:
    old, new = (named_port_labels([("http", "tcp", port), ("dns", "UDP", 53)]) for port in (8080, 9090))
    assert set(map(str, old)) == {"named-port:http/TCP/8080", "named-port:dns/UDP/53"}
    assert from_canonical(canonical(old | new)) == old | new
    assert len(parse_labels(map(str, old | new))) == 3
