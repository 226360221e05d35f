import pytest

from cilia.contracts.labels import parse_labels
from cilia.errors import BadConfig
from services.identity.label_filter import read_label_filter


def kept(labels: list[str], *rules: str) -> set[str]:
    return {str(label) for label in read_label_filter(rules).identity_labels(parse_labels(labels))}


COUNTED = [
    "k8s:app=web",
    "k8s:io.kubernetes.pod.namespace=shop",
    "k8s:io.cilium.k8s.namespace.labels.team=red",
    "k8s:app.kubernetes.io/name=web",
    "k8s:io.cilium.k8s.policy.serviceaccount=default",
    "reserved:host=",
]
LEFT_OUT = [
    "k8s:pod-template-hash=77f9",
    "k8s:controller-revision-hash=5d",
    "k8s:statefulset.kubernetes.io/pod-name=web-0",
    "k8s:batch.kubernetes.io/controller-uid=1",
    "k8s:apps.kubernetes.io/pod-index=0",
    "k8s:io.kubernetes.container.name=web",
    "k8s:kubernetes.io/arch=amd64",
    "k8s:failure-domain.beta.kubernetes.io/zone=a",
    "k8s:annotation.note=x",
]


def test_the_defaults_leave_out_what_changes_with_every_pod() -> None:
    plain = {label.removesuffix("=") for label in COUNTED}
    assert {label.removesuffix("=") for label in kept([*COUNTED, *LEFT_OUT])} == plain


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (("!app",), {"k8s:io.kubernetes.pod.namespace=shop", "k8s:role=front"}),
        (("!k8s:role",), {"k8s:io.kubernetes.pod.namespace=shop", "k8s:app=web"}),
        (("k8s:!role",), {"k8s:io.kubernetes.pod.namespace=shop", "k8s:app=web"}),
        (("!container:role",), {"k8s:io.kubernetes.pod.namespace=shop", "k8s:app=web", "k8s:role=front"}),
        (("app",), {"k8s:io.kubernetes.pod.namespace=shop", "k8s:app=web"}),
        (("app", "k8s:role"), {"k8s:io.kubernetes.pod.namespace=shop", "k8s:app=web", "k8s:role=front"}),
        (("pod-template-hash.*",), {"k8s:io.kubernetes.pod.namespace=shop"}),
    ],
)
def test_own_rules_stand_beside_the_defaults(rules: tuple[str, ...], expected: set[str]) -> None:
    labels = ["k8s:io.kubernetes.pod.namespace=shop", "k8s:app=web", "k8s:role=front", "k8s:pod-template-hash=1"]
    assert kept(labels, *rules) == expected


@pytest.mark.parametrize("rule", ["", "!", "k8s:", "!k8s:", "k8s:!", "app(", "!*"])
def test_what_is_no_rule_is_refused_by_name(rule: str) -> None:
    with pytest.raises(BadConfig, match="labels"):
        read_label_filter([rule])
