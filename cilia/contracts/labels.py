"""Security labels: ``source:key=value``, in one canonical text form.

A label set is what an identity stands for. Its canonical form (sorted, each label closed by ``;``)
is the key under which the identity is found in the kvstore, as in Cilium (pkg/labels, SortedList).
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

DEFAULT_SOURCE: Final = "k8s"
NODE: Final = "node"
"""Source of the labels of nodes."""
NAMESPACE: Final = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS: Final = "io.cilium.k8s.namespace.labels."
CLUSTER: Final = "io.cilium.k8s.policy.cluster"


class BadLabel(ValueError):
    """Error of a text that is no label."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"label {text!r}: {reason}")
        self.text = text


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
    """
    of_namespace = {"kubernetes.io/metadata.name": namespace, **(namespace_labels or {})}
    return frozenset(
        {Label(DEFAULT_SOURCE, key, value) for key, value in labels.items()}
        | {Label(DEFAULT_SOURCE, NAMESPACE_LABELS + key, value) for key, value in of_namespace.items()}
        | {Label(DEFAULT_SOURCE, NAMESPACE, namespace)}
    )
