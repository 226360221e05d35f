"""Verdicts on recorded flows under one set of policies, in force or only proposed."""

from collections.abc import Iterable

from cilia.contracts.explanations import RulePath
from cilia.contracts.flows import RecordedPeer
from cilia.policy.engine.engine import Engine
from cilia.policy.engine.events import PolicyPut
from cilia.policy.engine.options import Options
from cilia.policy.engine.rules import Policy
from cilia.policy.explain.judgement import Judge, Judgement
from cilia.policy.explain.packet import Packet
from cilia.policy.observed.flows import ObservedFlow
from cilia.policy.observed.parties import RecordedParties


class FlowJudge:
    """Judges recorded flows under one set of policies."""

    def __init__(self, policies: Iterable[Policy], options: Options | None = None) -> None:
        engine = Engine(options)
        engine.apply([PolicyPut(policy) for policy in policies])
        self._judge = Judge(engine)
        self._parties = RecordedParties(engine)

    @property
    def rules(self) -> Iterable[RulePath]:
        """Every rule that can match something."""
        return self._judge.rules

    def judge(self, source: RecordedPeer, destination: RecordedPeer, packet: Packet) -> Judgement:
        """Return the verdict on a flow.

        Raises:
            BadFlows: An end is none.
        """
        return self._judge.judge(self._parties.find(source), self._parties.find(destination), packet)

    def judge_recorded(self, flow: ObservedFlow) -> Judgement:
        """Return the verdict on a flow that was recorded."""
        return self.judge(flow.source, flow.destination, flow.packet)
