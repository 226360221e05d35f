"""Stores of policies without nodes: every change has room, and prefixes need nobody's identity."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cilia.contracts.keys import Keys
from cilia.contracts.policies import NodeForecast
from cilia.kvstore import Etcd
from services.policy.changes.store import Store
from services.policy.resolution.stored import StoredPolicy
from services.policy.resolution.trial import DesiredPolicies


@dataclass(frozen=True, slots=True)
class Admitted:
    """Admission of every change, with a record of those that were withdrawn or only forecast."""

    withdrawn: list[DesiredPolicies] = field(default_factory=list)
    forecasts: list[DesiredPolicies] = field(default_factory=list)

    async def admit(self, desired: DesiredPolicies) -> tuple[NodeForecast, ...]:
        return ()

    async def forecast(self, desired: DesiredPolicies) -> tuple[NodeForecast, ...]:
        self.forecasts.append(desired)
        return ()

    def withdraw(self, desired: DesiredPolicies) -> None:
        self.withdrawn.append(desired)


async def reserve_nothing(_: Iterable[str]) -> None:
    """Let policies name prefixes without an identity."""


def store_in(etcd: Etcd, keys: Keys, known: Mapping[str, StoredPolicy] | None = None) -> Store:
    """Return a store that knows nothing, or ``known``."""
    return Store(etcd, keys, Admitted(), reserve_nothing, known or {})
