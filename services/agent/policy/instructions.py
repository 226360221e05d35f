"""Instructions to the maps of policy, and the policy that they leave in a slot.

Pure data: :mod:`services.agent.policy.plan` makes them, :mod:`services.agent.policy.maps` performs
them. The layout is described in bpf/maps/policy.h.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from cilia.contracts.ids import Identity
from cilia.contracts.tables import PolicyEntry, PolicyKey

Entries = Mapping[PolicyKey, PolicyEntry]
"""Entries of one set by key."""


class Version(Struct, frozen=True):
    """Version, ``struct policy_version``: the set of entries in force, and its revision."""

    revision: int = 0
    set: int = 0
    shapes: int = 0
    """Bit set of the shapes of keys in use; 0: all is denied, and nothing looked up."""
    audit: bool = False
    """Mode that lets denials through; unused, since resolved policy marks the entries."""
    named_only: int = 0
    """Bit 0 for ingress, 1 for egress: no entry is for any peer, so none is looked for."""


class RealisedPolicy(Struct, frozen=True):
    """Policy that the kernel holds for one slot.

    Attributes:
        version: Version in force.
        entries: Entries in force.
        leftover: Keys that are left over in the other set.
    """

    version: Version
    entries: Entries
    leftover: frozenset[PolicyKey] = frozenset()


UNREALISED: Final = RealisedPolicy(Version(), {})


class PutEntries(Struct, frozen=True):
    """Write entries of one set."""

    slot: int
    set: int
    entries: Entries


class DeleteEntries(Struct, frozen=True):
    """Delete entries of one set."""

    slot: int
    set: int
    keys: frozenset[PolicyKey]


class StoreVersion(Struct, frozen=True):
    """Store the word of the version in force."""

    slot: int
    version: Version


class StoreNextVersion(Struct, frozen=True):
    """Store the word of the next version, then the epoch from which it is in force."""

    slot: int
    version: Version
    policy_epoch: int


class StorePolicyEpoch(Struct, frozen=True):
    """Store cilia_policy_epoch: every prepared version is in force."""

    policy_epoch: int


class ClearNextVersion(Struct, frozen=True):
    """Clear a slot's epoch: its current word is in force."""

    slot: int


class AwaitGracePeriod(Struct, frozen=True):
    """Wait for a grace period, until no program still works with what it read before."""


class StoreIdentity(Struct, frozen=True):
    """Store the identity whose slot it is."""

    slot: int
    identity: Identity


Instruction = (
    PutEntries
    | DeleteEntries
    | StoreVersion
    | StoreNextVersion
    | StorePolicyEpoch
    | ClearNextVersion
    | AwaitGracePeriod
    | StoreIdentity
)


def shape_of(key: PolicyKey) -> int:
    """Return the shape of a key: 0 for any protocol, 1 + n for n leading bits of the port."""
    return 1 + key.port_bits if key.protocol else 0


def shapes_of(keys: Iterable[PolicyKey]) -> int:
    """Return the bit set of the shapes in use."""
    bits = 0
    for key in keys:
        bits |= 1 << shape_of(key)
    return bits


def named_only_of(keys: Iterable[PolicyKey]) -> int:
    """Return the bit set of the directions without an entry for any peer."""
    bits = 0b11
    for key in keys:
        if not key.identity:
            bits &= ~(1 << key.egress)
    return bits
