"""Policies in shadow, as the table of policies has them now."""

import logging
from collections.abc import Sequence

from cilia.contracts.flows import RecordedFlow, ShadowVerdict
from cilia.contracts.tables import PolicyObject
from cilia.policy.engine.options import Options
from cilia.policy.errors import BadPolicy
from cilia.policy.language.parse import ParsedPolicy, decode_object
from cilia.policy.observed.shadow import Shadows
from cilia.table.subscriber import TableSubscriber

log = logging.getLogger(__name__)


class ShadowPolicies:
    """Follows the table. ``watch`` goes to the supervisor."""

    def __init__(self, policies: TableSubscriber[str, PolicyObject], *, remember: int) -> None:
        self._table = policies
        self._remember = remember
        self._policies: dict[str, ParsedPolicy] = {}
        self._shadows = Shadows({})

    @property
    def count(self) -> int:
        """Number of policies in shadow."""
        return sum(each.policy.shadow for each in self._policies.values())

    def judge_all(self, flows: Sequence[RecordedFlow]) -> tuple[ShadowVerdict, ...]:
        """Return the verdicts on those flows in which a policy in shadow has a say.

        Raises:
            BadFlows: An end of a flow is none.
        """
        return self._shadows.judge_all(flows)

    async def watch(self) -> None:
        """Read policies as they change, until cancelled."""
        async for changes in self._table.changes():
            for change in changes:
                for key in change.removes:
                    self._policies.pop(key, None)
                for key, row in change.upserts.items():
                    self._take(key, row)
            self._shadows = self._read() if self.count else Shadows({})

    def _read(self) -> Shadows:
        policies = {key: each.policy for key, each in self._policies.items()}
        modes = [each.enforcement.mode for each in self._policies.values() if each.enforcement is not None]
        return Shadows(policies, Options(mode=modes[0]) if modes else None, remember=self._remember)

    def _take(self, key: str, row: PolicyObject) -> None:
        try:
            self._policies[key] = decode_object(row)
        except BadPolicy as error:  # another version accepted it
            log.error("policy %s can't be judged: %s", key, error)
            self._policies.pop(key, None)
