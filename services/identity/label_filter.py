"""Filter of the labels that count for an identity, so that pods share identities.

The rules and the defaults are the peer's (pkg/labelsfilter): a rule is ``[source:][!]regex`` or
``[!][source:]regex``, matched from the beginning of the key; ``!`` leaves a label out. Of the rules
that match, the longest that takes it in stands against the shortest that leaves it out.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cilia.contracts.labels import Label, Labels
from cilia.errors import BadConfig

DEFAULTS: Final = (
    r"reserved:.*",
    r"io\.kubernetes\.pod\.namespace",
    r"io\.cilium\.k8s\.namespace\.labels",
    r"app\.kubernetes\.io",
    r"io\.cilium\.k8s\.policy\.cluster",
    r"io\.cilium\.k8s\.policy\.serviceaccount",
    r"!io\.kubernetes",
    r"!kubernetes\.io",
    r"!statefulset\.kubernetes\.io/pod-name",
    r"!apps\.kubernetes\.io/pod-index",
    r"!batch\.kubernetes\.io/job-completion-index",
    r"!batch\.kubernetes\.io/controller-uid",
    r"!.*beta\.kubernetes\.io",
    r"!k8s\.io",
    r"!pod-template-generation",
    r"!pod-template-hash",
    r"!controller-revision-hash",
    r"!controller-uid",
    r"!annotation.*",
    r"!etcd_node",
)
_RULE: Final = re.compile(r"(?P<out>!)?(?:(?P<source>[a-z0-9-]+):(?P<inner>!)?)?(?P<regex>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class LabelRule:
    """One rule; an empty source stands for all."""

    source: str
    key: re.Pattern[str]
    leaves_out: bool

    def matched(self, label: Label) -> int:
        """Return how much of the label's key matches; 0: it is not this rule's."""
        if self.source and self.source != label.source:
            return 0
        found = self.key.match(label.key)
        return found.end() if found else 0


@dataclass(frozen=True, slots=True)
class LabelFilter:
    """Rules in force; ``is_closed``: what no rule takes in is left out."""

    rules: tuple[LabelRule, ...]
    is_closed: bool

    def identity_labels(self, labels: Labels) -> Labels:
        """Return the labels that count."""
        return frozenset(filter(self._counts, labels))

    def _counts(self, label: Label) -> bool:
        lengths = [(rule.matched(label), rule.leaves_out) for rule in self.rules]
        taken = max((length for length, leaves_out in lengths if not leaves_out), default=0)
        left = min((length for length, leaves_out in lengths if leaves_out and length), default=0)
        return (not self.is_closed and not left) or taken > left


def read_label_filter(texts: Sequence[str], *, field: str = "labels") -> LabelFilter:
    """Read a user's rules, which stand beside the defaults. One without ``!`` closes the filter.

    Raises:
        BadConfig: One is no regular expression, or empty; names the setting and its value.
    """
    own = _read(texts, field)
    return LabelFilter((*_read(DEFAULTS, field), *own), any(not rule.leaves_out for rule in own))


def _read(texts: Iterable[str], field: str) -> tuple[LabelRule, ...]:
    rules = []
    for text in texts:
        match = _RULE.fullmatch(text)
        source, expression = (match["source"] or "", match["regex"]) if match else ("", "")
        leaves_out = match is not None and "!" in (match["out"], match["inner"])
        if not expression:
            raise BadConfig(field, text, source="configuration", reason="a rule is written [source:][!]regex")
        try:
            rules.append(LabelRule(source, re.compile(expression), leaves_out))
        except re.error as error:
            reason = f"is no regular expression: {error}"
            raise BadConfig(field, text, source="configuration", reason=reason) from error
    return tuple(rules)
