"""Label selectors of both languages, and the namespaces that they are limited to.

Cilium's keys may name a source (``k8s:``, ``any:``, ``reserved:``, ``cidr:``); without one any
source counts. Selectors of Kubernetes always mean labels of the source ``k8s``.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from cilia.contracts.labels import CLUSTER, NAMESPACE, NAMESPACE_LABELS, NODE
from cilia.policy.engine.rules import (
    ANY_SOURCE,
    CIDR,
    NAMESPACED,
    RESERVED,
    Operator,
    Requirement,
    Selector,
    parse_prefix,
)
from cilia.policy.language.documents import Field

SOURCES: Final = (
    "k8s",
    ANY_SOURCE,
    RESERVED,
    CIDR,
    "cidrgroup",
    "fqdn",
    "container",
    "unspec",
    NODE,
    "cni",
    "generated",
)
_NAME: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_DNS: Final = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
KeyReader = Callable[[Field, str], tuple[str, str]]


def read_selector(at: Field, read_key: KeyReader, *, without: tuple[str, str] | None = None) -> Selector:
    """Read ``matchLabels`` and ``matchExpressions``; no requirement selects everything.

    Args:
        without: (source, key) that is left out of ``matchLabels``.
    """
    body = at.mapping().only("matchLabels", "matchExpressions")
    found: list[Requirement] = []
    if (labels := body.get("matchLabels")) is not None:
        for text, item in labels.mapping():
            source, key = read_key(item, text)
            value = _label_value(item)
            if (source, key) != without:
                found.append(Requirement(source, key, Operator.IN, (value,)))
    if (expressions := body.get("matchExpressions")) is not None:
        found += [_expression(item, read_key) for item in expressions.items()]
    return _normalise(Selector(tuple(found)))


def _normalise(selector: Selector) -> Selector:
    """Order the requirements, so that selectors that say the same are the same."""
    ordered = sorted(
        set(selector.requirements), key=lambda item: (item.key, item.source, item.operator.value, item.values)
    )
    return replace(selector, requirements=tuple(ordered))


def _expression(at: Field, read_key: KeyReader) -> Requirement:
    body = at.mapping().only("key", "operator", "values")
    name = body.require("key")
    source, key = read_key(name, name.text())
    operator = Operator(body.require("operator").one_of([item.value for item in Operator]))
    values = body.get("values")
    items = values.items() if values is not None else []
    if operator in (Operator.IN, Operator.NOT_IN) and not items:
        (values or at).refuse(f"the operator {operator.value} needs values")
    if operator in (Operator.EXISTS, Operator.ABSENT) and values is not None and items:
        values.refuse(f"the operator {operator.value} takes no values")
    return Requirement(source, key, operator, tuple(sorted({_label_value(item) for item in items})))


def _label_value(at: Field) -> str:
    text = at.text()
    if text and not _NAME.fullmatch(text):
        at.refuse(
            "is no label value: at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends"
        )
    return text


def _check_key(at: Field, key: str) -> None:
    prefix, slash, name = key.rpartition("/")
    if not _NAME.fullmatch(name) or (slash and not _DNS.fullmatch(prefix)):
        at.refuse(f"{key!r} is no label key: a name of at most 63 characters, before it a DNS name and '/' if any")


def cilium_key(at: Field, text: str) -> tuple[str, str]:
    """Read ``[source:]key``."""
    source, colon, key = text.partition(":")
    if not colon:
        source, key = ANY_SOURCE, text
    if source not in SOURCES:
        at.refuse(f"{source!r} is no source of labels; known are {', '.join(SOURCES)}")
    if source == CIDR:
        try:
            return CIDR, str(parse_prefix(key))
        except ValueError:
            at.refuse(f"{key!r} is no CIDR")
    if source in ("cidrgroup", "fqdn"):
        at.mark_unenforced()
        return source, key
    _check_key(at, key.removeprefix(NAMESPACE_LABELS))  # behind the prefix it is a key as long as any other
    return source, key


def node_key(at: Field, text: str) -> tuple[str, str]:
    """Read the key of a selector of nodes: ``[source:]key``, by default of their own labels."""
    source, key = cilium_key(at, text if ":" in text else f"{ANY_SOURCE}:{text}")
    return NODE if source == ANY_SOURCE else source, key


def select_nodes(at: Field) -> Selector:
    """Read a selector of nodes: other nodes than the subject's own, which is its host."""
    return require(read_selector(at, node_key), Requirement(RESERVED, "remote-node", Operator.EXISTS))


def kubernetes_key(at: Field, text: str) -> tuple[str, str]:
    """Read a key of a pod selector."""
    _check_key(at, text)
    return "k8s", text


def namespace_key(at: Field, text: str) -> tuple[str, str]:
    """Read a key of a namespace selector."""
    _check_key(at, text)
    return "k8s", NAMESPACE_LABELS + text


def require(selector: Selector, *requirements: Requirement) -> Selector:
    """Return a narrower selector."""
    return _normalise(replace(selector, requirements=selector.requirements + requirements))


def in_namespace(namespace: str) -> Requirement:
    """Return what workloads of a namespace meet."""
    return Requirement("k8s", NAMESPACE, Operator.IN, (namespace,))


def read_subject(at: Field, read_key: KeyReader, namespace: str) -> Selector:
    """Read a subject selector, limited to its policy's namespace whichever one its ``matchLabels``
    name.
    """
    if not namespace:
        return read_selector(at, read_key)
    return require(read_selector(at, read_key, without=("k8s", NAMESPACE)), in_namespace(namespace))


def scope_peer(selector: Selector, *, namespace: str, cluster: str, subject_is_init: bool = False) -> Selector:
    """Limit a peer selector as the peer does (pkg/k8s/apis/cilium.io/utils).

    A selector that names reserved labels stays as it is. Otherwise one without a namespace is
    limited to the policy's; a clusterwide policy's to workloads; one without a cluster to ours, if
    clusters have a name.
    """
    keys = [(item.source, item.key) for item in selector.requirements]
    if any(source == RESERVED for source, _ in keys):
        return selector
    ours = [item for source, item in keys if source in ("k8s", ANY_SOURCE)]
    added = []
    if namespace and not any(key == NAMESPACE or key.startswith(NAMESPACE_LABELS) for key in ours):
        added.append(in_namespace(namespace))
    elif not namespace and not subject_is_init:
        added.append(NAMESPACED)
    if cluster and CLUSTER not in ours:
        added.append(Requirement("k8s", CLUSTER, Operator.IN, (cluster,)))
    return require(selector, *added)
