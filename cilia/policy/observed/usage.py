"""Use of rules: how many recorded flows each decides, and when the last one."""

from collections.abc import Iterable

from cilia.contracts.explanations import RulePath
from cilia.contracts.messages import Message
from cilia.policy.observed.flows import ObservedFlow
from cilia.policy.observed.judge import FlowJudge


class RuleUse(Message, frozen=True):
    """Use of one rule by recorded flows.

    Attributes:
        flows: Distinct recorded flows that it matches and decides; 0: it is unused.
        count: How often they were seen.
        last_ns: When one was seen last, Unix time; 0: never.
    """

    policy: str
    rule: str
    flows: int = 0
    count: int = 0
    last_ns: int = 0


def use_rules(judge: FlowJudge, flows: Iterable[ObservedFlow]) -> list[RuleUse]:
    """Return the use of every rule, by policy and path.

    A rule that allows is not used where a deny rule overrules it, nor a rule of ingress where
    egress denies.

    Raises:
        BadFlows: An end of a flow is none.
    """
    hits: dict[RulePath, list[ObservedFlow]] = {rule: [] for rule in judge.rules}
    for flow in flows:
        for rule in {rule for side in judge.judge_recorded(flow).deciding for rule in side.rules}:
            hits[rule].append(flow)
    return [_use(rule, deciding) for rule, deciding in hits.items()]


def _use(rule: RulePath, flows: list[ObservedFlow]) -> RuleUse:
    last = max((flow.last_ns for flow in flows), default=0)
    return RuleUse(rule.policy, rule.rule, len(flows), sum(flow.count for flow in flows), last)
