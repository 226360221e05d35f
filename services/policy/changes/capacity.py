"""Room of the nodes' policy maps for a change of policies, forecast before it is stored.

An agent writes a subject's next entries beside those in force, and removes the old ones afterwards;
subjects that change together do so at once. So a change needs room for all that a node has and all
that the changed subjects will have. What doesn't fit is refused by name; should the state move
between forecast and change, the agent refuses the same whole.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cilia.abi.enums import PolicyLimit
from cilia.bus import Bus
from cilia.contracts.agent import MapList
from cilia.contracts.ids import Identity, NodeName
from cilia.contracts.messages import Empty
from cilia.contracts.policies import NodeForecast
from cilia.contracts.tables import policy_cookie
from cilia.errors import Refused, Unavailable
from services.policy.changes.errors import TooManyEntries
from services.policy.resolution.identity_nodes import IdentityNodes
from services.policy.resolution.trial import DesiredPolicies, Sizes, Trials

log = logging.getLogger(__name__)

ASK_SECONDS: Final = 1.0
POLICY_MAP: Final = "cilia_policy"


@dataclass(frozen=True, slots=True)
class EntriesNeeded:
    """Entries of a node's policy map that a change needs.

    Attributes:
        afterwards: Once the change is made.
        peak: While it is made.
    """

    afterwards: int
    peak: int


def needs_of(
    identity_nodes: IdentityNodes, sizes: Sizes, size: Callable[[Identity], int]
) -> dict[NodeName, EntriesNeeded]:
    """Add up what each node that has changed subjects needs.

    Args:
        size: Gives the entries of a subject once the change is made.
    """
    nodes = {node for subject in sizes.after for node in identity_nodes.counts.get(subject, ())}
    needs = {}
    for node in nodes:
        here = identity_nodes.on(node)
        afterwards = sum(map(size, here))
        needs[node] = EntriesNeeded(
            afterwards, afterwards + sum(sizes.before[each] for each in here & sizes.after.keys())
        )
    return needs


@dataclass(slots=True)
class MapCapacities:
    """Capacity of each node's policy map; its agent is asked once if it hasn't said yet."""

    bus: Bus
    known: dict[NodeName, int] = field(default_factory=dict)

    def learn(self, node: NodeName, capacity: int) -> None:
        """Take note of what an agent says; 0: it doesn't."""
        if capacity:
            self.known[node] = capacity

    async def of(self, nodes: set[NodeName]) -> dict[NodeName, int]:
        """Return the capacity of nodes; for one that doesn't answer, what it is by default."""
        await asyncio.gather(*(self._ask(node) for node in nodes - self.known.keys()))
        return {node: self.known.get(node, int(PolicyLimit.ENTRIES)) for node in nodes}

    async def _ask(self, node: NodeName) -> None:
        subject = self.bus.subjects.node(node, "map-list")
        try:
            answer = await self.bus.request(subject, Empty(), MapList, timeout=ASK_SECONDS)
        except (Unavailable, Refused) as error:
            log.debug("node %s doesn't tell what its maps hold: %s", node, error)
            return
        for found in answer.maps:
            if found.name == POLICY_MAP:
                self.learn(node, found.max_entries)


@dataclass(frozen=True, slots=True)
class Admission:
    """Admission of changes that fit on every node."""

    trials: Trials
    nodes: IdentityNodes
    capacities: Callable[[set[NodeName]], Awaitable[Mapping[NodeName, int]]]

    async def admit(self, desired: DesiredPolicies) -> tuple[NodeForecast, ...]:
        """Forecast a change that is to be made, on the nodes that it concerns, the fullest first.
        Its trial stays until it is made, or withdrawn.

        Raises:
            TooManyEntries: It doesn't fit; names policy, subject, node and the numbers.
        """
        sizes = self.trials.try_sizes(desired)
        needs = needs_of(self.nodes, sizes, self.trials.size)
        try:
            return await self._compare(desired, sizes, needs)
        except BaseException:
            self.withdraw(desired)
            raise

    async def forecast(self, desired: DesiredPolicies) -> tuple[NodeForecast, ...]:
        """Forecast a change likewise, and leave no trial of it.

        Raises:
            TooManyEntries: It doesn't fit.
        """
        sizes = self.trials.try_sizes(desired)
        needs = needs_of(self.nodes, sizes, self.trials.size)
        self.withdraw(desired)
        try:
            return await self._compare(desired, sizes, needs)
        finally:
            self.withdraw(desired)  # a refusal tries it again

    def withdraw(self, desired: DesiredPolicies) -> None:
        """Take note that an admitted change isn't made."""
        self.trials.drop_trial(desired)

    async def _compare(
        self, desired: DesiredPolicies, sizes: Sizes, needs: Mapping[NodeName, EntriesNeeded]
    ) -> tuple[NodeForecast, ...]:
        capacities = await self.capacities(set(needs))
        found = [NodeForecast(node, need.afterwards, need.peak, capacities[node]) for node, need in needs.items()]
        found.sort(key=lambda each: (each.peak / each.capacity, each.node), reverse=True)
        if found and found[0].peak > found[0].capacity:
            raise self._refuse(desired, sizes, found[0])
        return tuple(found)

    def _refuse(self, desired: DesiredPolicies, sizes: Sizes, node: NodeForecast) -> TooManyEntries:
        here = self.nodes.on(node.node) & sizes.after.keys()
        subject = max(here, key=lambda each: (sizes.after[each], each))
        cookies = self.trials.try_cookies(desired, subject)
        policy = max(sorted(desired), key=lambda key: cookies[policy_cookie(key)])
        return TooManyEntries(policy, subject, sizes.after[subject], node)
