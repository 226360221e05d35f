"""How a subject's entries in cilia_policy get from what is in force to what is wanted, without a
wrong verdict between.

Pure: given what the kernel holds, :func:`plan` returns instructions, which
    ``services.agent.policy.reconciler`` performs. The
layout and its lookup are described in bpf/maps/policy.h. There are two ways:

* *Churn*: identities enter or leave the rules of a subject, and no deny or audit entry could
  interfere. Allow entries are only added, then only removed; every packet meets its old verdict or
  its new one. Flows that were allowed stay allowed by an addition, so only a removal raises the
  revision.
* *Switch*: anything else. The whole next state is written into the set that isn't in force, and one
  word makes it visible. Subjects that switch together are switched by one store to cilia_policy_epoch.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from cilia.contracts.ids import Identity
from cilia.contracts.tables import PolicyEntry, PolicyKey
from services.agent.errors import PolicyDoesNotFit

Entries = Mapping[PolicyKey, PolicyEntry]

CHURN_LIMIT: Final = 256
"""More changed entries than this are written as a whole new set."""


class Version(Struct, frozen=True):
    """``struct policy_version``: which entries are in force, and since which revision."""

    revision: int = 0
    set: int = 0
    shapes: int = 0
    audit: bool = False
    """Denials are let through; nobody asks for that here, since resolved policy marks the entries.
    """
    named_only: int = 0
    """Bit 0 for ingress, 1 for egress: no entry is for any peer, so none is looked for."""


class SlotState(Struct, frozen=True):
    """What the kernel holds for one slot: the version and entries in force, and keys left over in
    the other set.
    """

    version: Version
    entries: Entries
    leftover: frozenset[PolicyKey] = frozenset()


UNREALISED: Final = SlotState(Version(), {})


class Change(Struct, frozen=True):
    """A slot and the entries that it shall have."""

    slot: int
    identity: Identity
    held: SlotState
    desired: Entries


class Put(Struct, frozen=True):
    """Write entries of one set."""

    slot: int
    set: int
    entries: Entries


class Remove(Struct, frozen=True):
    """Delete entries of one set."""

    slot: int
    set: int
    keys: frozenset[PolicyKey]


class Store(Struct, frozen=True):
    """Store the word of the version in force."""

    slot: int
    version: Version


class Prepare(Struct, frozen=True):
    """Store the word of the next version, then the epoch from which it is in force."""

    slot: int
    version: Version
    epoch: int


class Switch(Struct, frozen=True):
    """Store cilia_policy_epoch: every prepared version is in force."""

    epoch: int


class Forget(Struct, frozen=True):
    """Clear a slot's epoch: its current word is in force."""

    slot: int


class Wait(Struct, frozen=True):
    """Wait until no program still works with what it read before."""


class Name(Struct, frozen=True):
    """Note whose slot it is."""

    slot: int
    identity: Identity


Instruction = Put | Remove | Store | Prepare | Switch | Forget | Wait | Name


class Plan(Struct, frozen=True):
    """Instructions for some subjects.

    Attributes:
        visible: After these the new policy is in force.
        cleanup: These remove what is in force no more; nothing may be planned for the same slots
            before they are done.
        after: What the kernel holds then, by slot.
        epoch: cilia_policy_epoch then.
        refused: Subjects that don't fit; they keep what they have.
    """

    visible: tuple[Instruction, ...]
    cleanup: tuple[Instruction, ...]
    after: Mapping[int, SlotState]
    epoch: int
    refused: tuple[PolicyDoesNotFit, ...] = ()


def inherit(entries: Entries, heirs: Mapping[Identity, Identity]) -> dict[PolicyKey, PolicyEntry]:
    """Return what gives identities that ``entries`` don't know the verdicts of others.

    Args:
        heirs: Such an identity -> the one whose verdicts it shall have.
    """
    known = {key.identity for key in entries}
    of: dict[Identity, list[Identity]] = {}
    for heir, parent in heirs.items():
        if heir not in known:
            of.setdefault(parent, []).append(heir)
    return {replace(key, identity=heir): entry for key, entry in entries.items() for heir in of.get(key.identity, ())}


def shape_of(key: PolicyKey) -> int:
    """Return the shape of a key: 0 any protocol, 1 + n a protocol and n leading bits of the port."""
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


def is_churn(old: Entries, new: Entries) -> bool:
    """Tell whether ``new`` can be reached from ``old`` in place.

    That is so if each changed entry is a plain allow of an identity that is wholly new to the
    subject or leaves it wholly, and no entry for any peer in that direction denies or audits: then
    the longest match of such an identity can only add an allow, whichever of its entries are there
    already. A member of a set counts as what the set holds.
    """
    changed = [key for key in old.keys() | new.keys() if old.get(key) != new.get(key)]
    if len(changed) > CHURN_LIMIT or any(key in old and key in new for key in changed):
        return False
    peers = {key.identity for key in changed}
    before = {key.identity for key in old} & peers
    after = {key.identity for key in new} & peers
    if 0 in peers or before & after:
        return False
    sets = {entry.peer_set for entry in (old.get(key) or new[key] for key in changed)} - {0} | peers | {0}
    return not any(
        key.identity in sets and (entry.deny or entry.audit) for state in (old, new) for key, entry in state.items()
    )


def plan(changes: Sequence[Change], *, epoch: int, free: int) -> Plan:
    """Plan the way from what the kernel holds to what is desired.

    Args:
        changes: At most one for each slot.
        epoch: The value of cilia_policy_epoch.
        free: Entries for which cilia_policy has room.
    """
    visible: list[Instruction] = []
    cleanup: list[Instruction] = []
    after: dict[int, SlotState] = {}
    refused: list[PolicyDoesNotFit] = []
    switching: list[Change] = []
    for change in changes:
        held = change.held
        if held.version.revision and held.entries == change.desired:
            if held.leftover:
                cleanup += _sweep(change)
                after[change.slot] = SlotState(held.version, held.entries)
            continue
        churn = bool(held.version.shapes) and is_churn(held.entries, change.desired)
        added = len(change.desired.keys() - held.entries.keys()) if churn else len(change.desired)
        if added > free:
            refused.append(PolicyDoesNotFit(change.identity, added, free))
            continue
        free -= added
        if churn:
            steps, after[change.slot] = _churn(change)
            visible += steps
            cleanup += _sweep(change)
        elif held.version.shapes:
            switching.append(change)
        else:
            steps, after[change.slot] = _first(change)
            visible += steps
    if switching:
        together = _switch_together if len(switching) > 1 else _switch_one
        epoch = together(switching, epoch, visible, cleanup, after)
    return Plan(tuple(visible), tuple(cleanup), after, epoch, tuple(refused))


def plan_release(slot: int, held: SlotState) -> Plan:
    """Plan to leave a slot without entries, so that it denies all; its revision still grows, so no
    flow mistakes it.
    """
    empty = Version(held.version.revision + 1, held.version.set, 0)
    removes = _removes(slot, held.version.set, held.entries.keys()) + _removes(slot, empty.set ^ 1, held.leftover)
    return Plan((Store(slot, empty),), (Wait(), *removes), {slot: SlotState(empty, {})}, 0)


def _churn(change: Change) -> tuple[list[Instruction], SlotState]:
    slot, held = change.slot, change.held
    version = held.version
    added = {key: entry for key, entry in change.desired.items() if key not in held.entries}
    removed = frozenset(held.entries.keys() - change.desired.keys())
    steps: list[Instruction] = []
    if added:
        steps.append(Put(slot, version.set, added))
        shapes, named_only = version.shapes | shapes_of(added), version.named_only & named_only_of(added)
        if (shapes, named_only) != (version.shapes, version.named_only):
            version = replace(version, shapes=shapes, named_only=named_only)
            steps.append(Store(slot, version))
    if removed:
        version = replace(version, revision=version.revision + 1)
        steps += [Remove(slot, version.set, removed), Store(slot, version)]
    return steps, SlotState(version, change.desired)


def _sweep(change: Change) -> list[Instruction]:
    """Remove what an agent left in the other set when it died between a switch and its cleanup."""
    removes = _removes(change.slot, change.held.version.set ^ 1, change.held.leftover)
    return [Wait(), *removes] if removes else []


def _first(change: Change) -> tuple[list[Instruction], SlotState]:
    """Realise a slot that has denied all: nothing of it can be in use by a program."""
    version = _next_version(change)
    steps: list[Instruction] = [*_write_other(change, version), Store(change.slot, version)]
    return steps, SlotState(version, change.desired)


def _switch_one(
    changes: Sequence[Change],
    epoch: int,
    visible: list[Instruction],
    cleanup: list[Instruction],
    after: dict[int, SlotState],
) -> int:
    (change,) = changes
    version = _next_version(change)
    visible += [*_write_other(change, version), Store(change.slot, version)]
    cleanup += [Wait(), *_removes(change.slot, change.held.version.set, change.held.entries.keys())]
    after[change.slot] = SlotState(version, change.desired)
    return epoch


def _switch_together(
    changes: Sequence[Change],
    epoch: int,
    visible: list[Instruction],
    cleanup: list[Instruction],
    after: dict[int, SlotState],
) -> int:
    """Switch by epoch.

    The second wait keeps a program that still reads ``next`` from meeting that of a later plan.
    """
    epoch += 1
    versions = {change.slot: _next_version(change) for change in changes}
    for change in changes:
        visible += _write_other(change, versions[change.slot])
        after[change.slot] = SlotState(versions[change.slot], change.desired)
    visible += [Prepare(slot, version, epoch) for slot, version in versions.items()]
    visible.append(Switch(epoch))
    cleanup += [Store(slot, version) for slot, version in versions.items()]
    cleanup.append(Wait())
    cleanup += [Forget(slot) for slot in versions]
    for change in changes:
        cleanup += _removes(change.slot, change.held.version.set, change.held.entries.keys())
    cleanup.append(Wait())
    return epoch


def _next_version(change: Change) -> Version:
    version = change.held.version
    named_only = named_only_of(change.desired)
    return Version(version.revision + 1, version.set ^ 1, shapes_of(change.desired), named_only=named_only)


def _write_other(change: Change, version: Version) -> list[Instruction]:
    stale = change.held.leftover - change.desired.keys()
    put: list[Instruction] = [Put(change.slot, version.set, change.desired)] if change.desired else []
    return [*_removes(change.slot, version.set, stale), *put]


def _removes(slot: int, entry_set: int, keys: Iterable[PolicyKey]) -> list[Instruction]:
    gone = frozenset(keys)
    return [Remove(slot, entry_set, gone)] if gone else []
