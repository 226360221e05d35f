"""Security labels: ``source:key=value``, in one canonical text form.

A label set is what an identity stands for. Its canonical form (sorted, each label closed by ``;``)
is the key under which the identity is found in the kvstore, as in Cilium (pkg/labels, SortedList).
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from cilia.contracts.ids import NamedPort

DEFAULT_SOURCE: Final = "k8s"
NODE: Final = "node"
"""Source of the labels of nodes."""
NAMESPACE: Final = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS: Final = "io.cilium.k8s.namespace.labels."
CLUSTER: Final = "io.cilium.k8s.policy.cluster"
NAME_OF_NAMESPACE: Final = "kubernetes.io/metadata.name"
"""Key of the label that every namespace has, with its name as the value."""
PLATFORM_PREFIX: Final = "io.cilium.k8s."
"""Prefix of the keys by which the platform vouches for a workload: its namespace's labels, its
cluster, its service account. A workload's owner can't set them.
"""
NAMED_PORT: Final = "named-port"
"""Source of the labels that tell which numbers the pods of an identity give to the names of their
ports, so that pods that name them otherwise have an identity of their own.
"""


class BadLabel(ValueError):
    """Error of a text that is no label."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"label {text!r}: {reason}")
        self.text = text


def is_platform_key(key: str) -> bool:
    """Tell whether only the platform may set a label of the source ``k8s``."""
    return key == NAMESPACE or key.startswith(PLATFORM_PREFIX)


class Label(NamedTuple):
    """One security label; ``source`` tells who vouches for it: k8s, reserved, cidr, node, ..."""

    source: str
    key: str
    value: str

    @classmethod
    def parse(cls, text: str) -> "Label":
        """Read ``[source:]key[=value]``; the source defaults to ``k8s``.

        Raises:
            BadLabel: The key is empty, or the text holds a ``;``.
        """
        if ";" in text:
            raise BadLabel(text, "';' separates labels and can't be part of one")
        head, equals, value = text.partition("=")
        source, colon, key = head.partition(":")
        if not colon:
            source, key = DEFAULT_SOURCE, head
        if not key or not source:
            raise BadLabel(text, "the key is empty" if source else "the source is empty")
        return cls(source, key, value if equals else "")

    def __str__(self) -> str:
        return f"{self.source}:{self.key}={self.value}" if self.value else f"{self.source}:{self.key}"


Labels = frozenset[Label]


def parse_labels(texts: Iterable[str]) -> Labels:
    """Read labels; two values for one source and key are an error.

    Raises:
        BadLabel: A text is no label, or a key has two values.
    """
    labels = frozenset(Label.parse(text) for text in texts)
    seen: dict[tuple[str, str], Label] = {}
    for label in labels:
        other = seen.setdefault((label.source, label.key), label)
        if other != label:
            raise BadLabel(str(label), f"the key already has the value {other.value!r}")
    return labels


def canonical(labels: Iterable[Label]) -> str:
    """Return the one text of a label set: sorted, ``source:key=value;`` each."""
    return "".join(f"{label.source}:{label.key}={label.value};" for label in sorted(labels))


def from_canonical(text: str) -> Labels:
    """Read the text that :func:`canonical` wrote."""
    return frozenset(Label.parse(part) for part in text.split(";") if part)


def node(labels: Iterable[str]) -> Labels:
    """Return the label set of another node with labels such as ``zone=a``; none for one without.

    Raises:
        BadLabel: A text is no label, or a key has two values.
    """
    own = parse_labels(f"{NODE}:{text}" for text in labels)
    return own | {Label("reserved", "remote-node", "")} if own else own


def workload(namespace: str, labels: Mapping[str, str], namespace_labels: Mapping[str, str] | None = None) -> Labels:
    """Return the label set of a workload, as Cilium does: its own labels, its namespace's labels,
    and the namespace.

    Raises:
        BadLabel: One of its own labels has a key by which the platform vouches for it.
    """
    for key, value in labels.items():
        if is_platform_key(key):
            raise BadLabel(f"{key}={value}", "only the platform sets labels of this key")
    of_namespace = {NAME_OF_NAMESPACE: namespace, **(namespace_labels or {})}
    return frozenset(
        {Label(DEFAULT_SOURCE, key, value) for key, value in labels.items()}
        | {Label(DEFAULT_SOURCE, NAMESPACE_LABELS + key, value) for key, value in of_namespace.items()}
        | {Label(DEFAULT_SOURCE, NAMESPACE, namespace)}
    )


def named_port_labels(ports: Iterable[NamedPort]) -> Labels:
    """Return the labels of a pod's named ports, ``named-port:http/TCP/8080`` each.

    A policy that names a port means the number that each pod gives to it. Map state is one for all
    pods of an identity; with these labels all of them mean the same.
    """
    return frozenset(Label(NAMED_PORT, f"{name}/{protocol.upper()}/{port}", "") for name, protocol, port in ports)
