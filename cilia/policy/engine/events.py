"""Events that the engine takes: policies, identities, endpoints and the enforcement mode."""

from dataclasses import dataclass

from cilia.contracts.ids import Identity
from cilia.contracts.labels import Labels
from cilia.policy.engine.options import Mode
from cilia.policy.engine.rules import Policy
from cilia.policy.engine.selectors import ContainerPort


@dataclass(frozen=True, slots=True)
class PolicyPut:
    """A policy was written."""

    policy: Policy


@dataclass(frozen=True, slots=True)
class PolicyRemoved:
    """A policy was deleted; unknown keys are no error."""

    key: str


@dataclass(frozen=True, slots=True)
class IdentityPut:
    """An identity exists, with these labels. One with a ``cidr:`` label stands for that prefix."""

    identity: Identity
    labels: Labels


@dataclass(frozen=True, slots=True)
class IdentityRemoved:
    """An identity is gone; unknown ones are no error."""

    identity: Identity


@dataclass(frozen=True, slots=True)
class EndpointsChanged:
    """All addresses and named ports of the pods that have an identity; may come before the
    identity.
    """

    identity: Identity
    addresses: frozenset[str]
    ports: frozenset[ContainerPort]


@dataclass(frozen=True, slots=True)
class ModeSet:
    """The enforcement mode was changed; with ``audit`` denials are let through and reported,
    whoever's they are.
    """

    mode: Mode
    audit: bool = False


Event = PolicyPut | PolicyRemoved | IdentityPut | IdentityRemoved | EndpointsChanged | ModeSet
