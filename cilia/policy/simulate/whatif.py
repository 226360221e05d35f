"""What a change of policies would do to recorded flows."""

from collections.abc import Iterable, Mapping, Sequence

from cilia.contracts.explanations import RulePath
from cilia.contracts.flows import RecordedPeer
from cilia.contracts.messages import Message
from cilia.contracts.protocols import protocol_name
from cilia.policy.engine.engine import Engine, Options, PolicyPut
from cilia.policy.engine.rules import Policy
from cilia.policy.explain.judgement import Judge, Judgement
from cilia.policy.explain.mismatch import Packet
from cilia.policy.observed.recorded import Ends, ObservedFlow, name_of


class RecordedFlowJudge:
    """Judges recorded flows under one set of policies."""

    def __init__(self, policies: Iterable[Policy], options: Options | None = None) -> None:
        engine = Engine(options)
        engine.apply([PolicyPut(policy) for policy in policies])
        self._judge = Judge(engine)
        self._ends = Ends(engine)

    @property
    def rules(self) -> Iterable[RulePath]:
        """Every rule that can match something."""
        return self._judge.rules

    def judge(self, source: RecordedPeer, destination: RecordedPeer, packet: Packet) -> Judgement:
        """Return the verdict on a flow.

        Raises:
            BadFlows: An end is none.
        """
        return self._judge.judge(self._ends.find(source), self._ends.find(destination), packet)

    def judge_talk(self, talk: ObservedFlow) -> Judgement:
        """Return the verdict on what was recorded."""
        return self.judge(talk.source, talk.destination, talk.packet)


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
    """Distinct flows, and how often they were seen."""

    flows: int
    count: int


class PolicyDiff(Message, frozen=True):
    """What a change of policies does to the recorded flows; the most frequent come first."""

    newly_denied: tuple[FlowChange, ...]
    newly_allowed: tuple[FlowChange, ...]
    still_allowed: Tally
    still_denied: Tally


def compare(talks: Sequence[ObservedFlow], before: RecordedFlowJudge | None, after: RecordedFlowJudge) -> PolicyDiff:
    """Judge recorded flows before and after a change.

    Args:
        before: None: what was recorded stands for it.

    Raises:
        BadFlows: An end of a flow is none.
    """
    denied: list[FlowChange] = []
    allowed: list[FlowChange] = []
    same: dict[bool, list[ObservedFlow]] = {True: [], False: []}
    for talk in talks:
        passed = talk.passed if before is None else before.judge_talk(talk).allowed
        judged = after.judge_talk(talk)
        if judged.allowed == passed:
            same[passed].append(talk)
        else:
            (allowed if judged.allowed else denied).append(_change(talk, judged))
    return PolicyDiff(tuple(denied), tuple(allowed), _tally(same[True]), _tally(same[False]))


def change_policies(base: Mapping[str, Policy], puts: Iterable[Policy], removes: Iterable[str]) -> list[Policy]:
    """Return a set of policies with some written, and others removed."""
    gone = set(removes)
    changed = {key: policy for key, policy in base.items() if key not in gone}
    return list((changed | {policy.key: policy for policy in puts}).values())


def _change(talk: ObservedFlow, judged: Judgement) -> FlowChange:
    sides = judged.deciding
    deciding = [side for side in sides if side.allowed == judged.allowed]
    return FlowChange(
        name_of(talk.source),
        name_of(talk.destination),
        talk.source.labels,
        talk.destination.labels,
        protocol_name(talk.packet.protocol),
        talk.packet.port,
        talk.verdict,
        tuple(rule for side in deciding for rule in side.rules),
        tuple(dict.fromkeys(key for side in deciding for key in side.isolated_by)),
        talk.count,
        talk.first_ns,
        talk.last_ns,
    )


def _tally(talks: Sequence[ObservedFlow]) -> Tally:
    return Tally(len(talks), sum(talk.count for talk in talks))
