"""Which rules recorded flows have hit, and which none has."""

from collections.abc import Iterable

from cilia.contracts.explanations import RulePath
from cilia.contracts.messages import Message
from cilia.policy.observed.recorded import ObservedFlow
from cilia.policy.simulate.whatif import RecordedFlowJudge


class RuleUse(Message, frozen=True):
    """How a rule is used.

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


def use_rules(outlook: RecordedFlowJudge, talks: Iterable[ObservedFlow]) -> list[RuleUse]:
    """Return the use of every rule, by policy and place.

    A rule that allows is not used where a deny rule overrules it, nor a rule of ingress where
    egress denies.

    Raises:
        BadFlows: An end of a flow is none.
    """
    hits: dict[RulePath, list[ObservedFlow]] = {place: [] for place in outlook.rules}
    for talk in talks:
        for place in {place for side in outlook.judge_talk(talk).deciding for place in side.rules}:
            hits[place].append(talk)
    return [_use(place, talks) for place, talks in hits.items()]


def _use(place: RulePath, talks: list[ObservedFlow]) -> RuleUse:
    last = max((talk.last_ns for talk in talks), default=0)
    return RuleUse(place.policy, place.rule, len(talks), sum(talk.count for talk in talks), last)
