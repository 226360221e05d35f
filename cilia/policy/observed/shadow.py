"""Shadow policies: verdicts on flows as if they were in force beside the others."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from msgspec import structs

from cilia.contracts.flows import RecordedFlow, ShadowVerdict
from cilia.contracts.protocols import protocol_number
from cilia.policy.engine.options import Options
from cilia.policy.engine.rules import Policy
from cilia.policy.explain.judgement import Judgement
from cilia.policy.explain.packet import Packet
from cilia.policy.observed.judge import FlowJudge

Known = tuple[bool, bool, tuple[str, ...]]


class Shadows:
    """Judges flows with and without the policies in shadow; what it found about a flow it
    remembers, bounded.
    """

    def __init__(self, policies: Mapping[str, Policy], options: Options | None = None, *, remember: int = 0) -> None:
        self._keys = frozenset(key for key, policy in policies.items() if policy.shadow)
        in_force = [policy for policy in policies.values() if not policy.shadow]
        self._now = FlowJudge(in_force, options)
        self._then = FlowJudge((replace(policy, shadow=False) for policy in policies.values()), options)
        self._known: dict[object, Known] = {}
        self._remember = remember

    def __bool__(self) -> bool:
        return bool(self._keys)

    def judge(self, flow: RecordedFlow) -> ShadowVerdict | None:
        """Return what would become of a flow; None if no policy in shadow has a say in it.

        Raises:
            BadFlows: An end is none.
        """
        if not self._keys:
            return None
        source, destination = (structs.replace(end, identity=0) for end in (flow.source, flow.destination))
        key = (source, destination, flow.protocol, flow.port)
        known = self._known.get(key)
        if known is None:
            packet = Packet(protocol_number(flow.protocol), flow.port)
            then = self._then.judge(source, destination, packet)
            known = (
                self._now.judge(source, destination, packet).allowed,
                then.allowed,
                tuple(sorted(self._keys & _deciding(then))),
            )
            if len(self._known) < self._remember:
                self._known[key] = known
        allowed, would_be, policies = known
        return ShadowVerdict(flow, allowed, would_be, policies) if policies else None

    def judge_all(self, flows: Iterable[RecordedFlow]) -> tuple[ShadowVerdict, ...]:
        """Return the verdicts on those flows in which a policy in shadow has a say."""
        found = (self.judge(flow) for flow in flows)
        return tuple(verdict for verdict in found if verdict is not None)


def _deciding(judged: Judgement) -> frozenset[str]:
    sides = [side for side in judged.deciding if side.allowed == judged.allowed]
    rules = (place.policy for side in sides for place in side.rules)
    return frozenset(rules) | {key for side in sides for key in side.isolated_by}
