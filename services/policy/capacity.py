"""Whether nodes have room for a change of policies, told before it is stored.

An agent writes a subject's next entries beside those in force, and removes the old ones afterwards;
subjects that change together do so at once. So a change needs room for all that a node has and all
that the changed subjects will have. What doesn't fit is refused by name; should the state move
between forecast and change, the agent refuses the same whole.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from cilia.abi.enums import PolicyLimit
from cilia.bus import Bus
from cilia.contracts.agent import MapList
from cilia.contracts.ids import Identity, NodeName
from cilia.contracts.messages import Empty, Problem, ProblemCode
from cilia.contracts.policies import NodeForecast
from cilia.contracts.tables import PolicyObject, policy_cookie
from cilia.errors import Refused, Unavailable
from services.policy.state import Places

log = logging.getLogger(__name__)

ASK_SECONDS: Final = 1.0
POLICY_MAP: Final = "cilia_policy"

Wanted = Mapping[str, PolicyObject | None]
"""Policies by key as they shall be; None for one that is to go."""


class TooManyEntries(Refused):
    """A change doesn't fit the policy map of a node."""

    def __init__(self, policy: str, subject: Identity, entries: int, node: NodeForecast) -> None:
        text = (
            f"{policy}: its subject with identity {subject} wants {entries:,} entries; {node.node} would need "
            f"{node.peak:,} while it changes, {node.entries:,} afterwards, and holds {node.capacity:,}"
        )
        super().__init__(Problem(ProblemCode.EXHAUSTED, text, field=policy, value=str(entries)))


@dataclass(frozen=True, slots=True)
class Sizes:
    """Entries of the subjects that a change concerns, before and after."""

    before: Mapping[Identity, int]
    after: Mapping[Identity, int]


class Trial(Protocol):
    """What can be tried out with policies."""

    def size(self, subject: Identity) -> int:
        """Return how many entries a subject has."""
        ...

    def try_sizes(self, wanted: Wanted) -> Sizes:
        """Tell what a change would do to the number of entries."""
        ...

    def try_cookies(self, wanted: Wanted, subject: Identity) -> Counter[int]:
        """Tell how many entries of a subject each policy would have, by cookie."""
        ...


def forecast(
    places: Places, sizes: Sizes, size: Callable[[Identity], int], capacity: int, node: NodeName
) -> NodeForecast:
    """Forecast the entries of a node that has changed subjects."""
    here = places.on(node)
    now = sum(map(size, here))
    changed = here & sizes.after.keys()
    added = sum(sizes.after[subject] for subject in changed)
    return NodeForecast(node, now + added - sum(sizes.before[subject] for subject in changed), now + added, capacity)


@dataclass(slots=True)
class Capacities:
    """How many entries each node's policy map holds, as its agent says; asked once, where it hasn't
    said yet.
    """

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
    """Lets a change pass if it fits everywhere."""

    trial: Trial
    places: Places
    capacities: Callable[[set[NodeName]], Awaitable[Mapping[NodeName, int]]]

    async def admit(self, wanted: Wanted) -> tuple[NodeForecast, ...]:
        """Forecast a change on the nodes that it concerns, the fullest first.

        Raises:
            TooManyEntries: It doesn't fit; names policy, subject, node and the numbers.
        """
        sizes = self.trial.try_sizes(wanted)
        nodes = {node for subject in sizes.after for node in self.places.counts.get(subject, ())}
        capacities = await self.capacities(nodes)
        found = [forecast(self.places, sizes, self.trial.size, capacities[node], node) for node in nodes]
        found.sort(key=lambda each: (each.peak / each.capacity, each.node), reverse=True)
        if found and found[0].peak > found[0].capacity:
            raise self._refuse(wanted, sizes, found[0])
        return tuple(found)

    def _refuse(self, wanted: Wanted, sizes: Sizes, node: NodeForecast) -> TooManyEntries:
        here = self.places.on(node.node) & sizes.after.keys()
        subject = max(here, key=lambda each: (sizes.after[each], each))
        cookies = self.trial.try_cookies(wanted, subject)
        policy = max(sorted(wanted), key=lambda key: cookies[policy_cookie(key)])
        return TooManyEntries(policy, subject, sizes.after[subject], node)
