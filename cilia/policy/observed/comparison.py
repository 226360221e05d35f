"""Comparison of two sets of policies by the recorded flows whose verdict differs."""

from collections.abc import Iterable, Mapping, Sequence

from cilia.contracts.explanations import RulePath
from cilia.contracts.messages import Message
from cilia.contracts.protocols import protocol_name
from cilia.policy.engine.rules import Policy
from cilia.policy.explain.judgement import Judgement
from cilia.policy.observed.flows import ObservedFlow, name_of
from cilia.policy.observed.judge import FlowJudge


class FlowChange(Message, frozen=True):
    """Recorded flows whose verdict changes.

    Attributes:
        recorded: What became of them, when they were seen last.
        rules: That decide after the change, if any does.
        isolated_by: Keys of the policies that deny by default after the change.
        count, first_ns, last_ns: As recorded.
    """

    source: str
    destination: str
    source_labels: tuple[str, ...]
    destination_labels: tuple[str, ...]
    protocol: str
    port: int
    recorded: str
    rules: tuple[RulePath, ...]
    isolated_by: tuple[str, ...]
    count: int
    first_ns: int
    last_ns: int


class Tally(Message, frozen=True):
    """Number of distinct flows, and how often they were seen."""

    flows: int
    count: int


class PolicyDiff(Message, frozen=True):
    """Effect of a change of policies on recorded flows; the most frequent come first."""

    newly_denied: tuple[FlowChange, ...]
    newly_allowed: tuple[FlowChange, ...]
    still_allowed: Tally
    still_denied: Tally


def compare(flows: Sequence[ObservedFlow], before: FlowJudge | None, after: FlowJudge) -> PolicyDiff:
    """Judge recorded flows before and after a change.

    Args:
        before: None: what was recorded stands for it.

    Raises:
        BadFlows: An end of a flow is none.
    """
    denied: list[FlowChange] = []
    allowed: list[FlowChange] = []
    same: dict[bool, list[ObservedFlow]] = {True: [], False: []}
    for flow in flows:
        passed = flow.passed if before is None else before.judge_recorded(flow).allowed
        judged = after.judge_recorded(flow)
        if judged.allowed == passed:
            same[passed].append(flow)
        else:
            (allowed if judged.allowed else denied).append(_change(flow, judged))
    return PolicyDiff(tuple(denied), tuple(allowed), _tally(same[True]), _tally(same[False]))


def change_policies(base: Mapping[str, Policy], puts: Iterable[Policy], removes: Iterable[str]) -> list[Policy]:
    """Return a set of policies with some written, and others removed."""
    gone = set(removes)
    changed = {key: policy for key, policy in base.items() if key not in gone}
    return list((changed | {policy.key: policy for policy in puts}).values())


def _change(flow: ObservedFlow, judged: Judgement) -> FlowChange:
    sides = judged.deciding
    deciding = [side for side in sides if side.allowed == judged.allowed]
    return FlowChange(
        name_of(flow.source),
        name_of(flow.destination),
        flow.source.labels,
        flow.destination.labels,
        protocol_name(flow.packet.protocol),
        flow.packet.port,
        flow.verdict,
        tuple(rule for side in deciding for rule in side.rules),
        tuple(dict.fromkeys(key for side in deciding for key in side.isolated_by)),
        flow.count,
        flow.first_ns,
        flow.last_ns,
    )


def _tally(flows: Sequence[ObservedFlow]) -> Tally:
    return Tally(len(flows), sum(flow.count for flow in flows))
