"""Plan of policy: from realised to desired entries of cilia_policy, no wrong verdict between.

Pure: given what the kernel holds, :func:`plan` returns instructions, which
``services.agent.policy.reconciler`` performs. The layout and its lookup are described in
bpf/maps/policy.h. There are two ways:

* *Churn*: identities enter or leave the rules of a slot, and no deny or audit entry could
  interfere. Allow entries are only added, then only removed; every packet meets its old verdict or
  its new one. Flows that were allowed stay allowed by an addition, so only a removal raises the
  revision.
* *Switch*: anything else. The whole next state is written into the set that isn't in force, and one
  word makes it visible. Slots that switch together are switched by one store to
  cilia_policy_epoch.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from cilia.contracts.ids import Identity
from cilia.contracts.tables import PolicyEntry, PolicyKey
from services.agent.errors import PolicyDoesNotFit
from services.agent.policy.instructions import (
    AwaitGracePeriod,
    ClearNextVersion,
    DeleteEntries,
    Entries,
    Instruction,
    PutEntries,
    RealisedPolicy,
    StoreNextVersion,
    StorePolicyEpoch,
    StoreVersion,
    Version,
    named_only_of,
    shapes_of,
)

CHURN_LIMIT: Final = 256
"""More changed entries than this are written as a whole new set."""


class Change(Struct, frozen=True):
    """Slot, its realised policy, and the entries desired for it."""

    slot: int
    identity: Identity
    realised: RealisedPolicy
    desired: Entries


class Plan(Struct, frozen=True):
    """Instructions for some slots.

    Attributes:
        visible: After these the new policy is in force.
        cleanup: These remove what is in force no more; nothing may be planned for the same slots
            before they are done.
        after: Policy that the kernel holds then, by slot.
        policy_epoch: Value of cilia_policy_epoch then.
        refused: Identities whose policy doesn't fit; they keep what they have.
    """

    visible: tuple[Instruction, ...]
    cleanup: tuple[Instruction, ...]
    after: Mapping[int, RealisedPolicy]
    policy_epoch: int
    refused: tuple[PolicyDoesNotFit, ...] = ()


def inherit(entries: Entries, heirs: Mapping[Identity, Identity]) -> dict[PolicyKey, PolicyEntry]:
    """Return entries that give identities unknown to ``entries`` the verdicts of others.

    Args:
        heirs: Such an identity -> the one whose verdicts it shall have.
    """
    known = {key.identity for key in entries}
    of: dict[Identity, list[Identity]] = {}
    for heir, parent in heirs.items():
        if heir not in known:
            of.setdefault(parent, []).append(heir)
    return {replace(key, identity=heir): entry for key, entry in entries.items() for heir in of.get(key.identity, ())}


def is_churn(old: Entries, new: Entries) -> bool:
    """Tell whether ``new`` can be reached from ``old`` in place.

    That is so if each changed entry is a plain allow of an identity that is wholly new to the
    slot or leaves it wholly, and no entry for any peer in that direction denies or audits: then
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


def plan(changes: Sequence[Change], *, policy_epoch: int, free: int) -> Plan:
    """Plan the way from what the kernel holds to what is desired.

    Args:
        changes: At most one for each slot.
        epoch: The value of cilia_policy_epoch.
        free: Entries for which cilia_policy has room.
    """
    visible: list[Instruction] = []
    cleanup: list[Instruction] = []
    after: dict[int, RealisedPolicy] = {}
    refused: list[PolicyDoesNotFit] = []
    switching: list[Change] = []
    for change in changes:
        realised = change.realised
        if realised.version.revision and realised.entries == change.desired:
            if realised.leftover:
                cleanup += _sweep(change)
                after[change.slot] = RealisedPolicy(realised.version, realised.entries)
            continue
        churn = bool(realised.version.shapes) and is_churn(realised.entries, change.desired)
        added = len(change.desired.keys() - realised.entries.keys()) if churn else len(change.desired)
        if added > free:
            refused.append(PolicyDoesNotFit(change.identity, added, free))
            continue
        free -= added
        if churn:
            steps, after[change.slot] = _churn(change)
            visible += steps
            cleanup += _sweep(change)
        elif realised.version.shapes:
            switching.append(change)
        else:
            steps, after[change.slot] = _first(change)
            visible += steps
    if switching:
        together = _switch_together if len(switching) > 1 else _switch_one
        policy_epoch = together(switching, policy_epoch, visible, cleanup, after)
    return Plan(tuple(visible), tuple(cleanup), after, policy_epoch, tuple(refused))


def plan_release(slot: int, realised: RealisedPolicy) -> Plan:
    """Plan to leave a slot without entries; its revision grows, so that no flow mistakes it."""
    empty = Version(realised.version.revision + 1, realised.version.set, 0)
    removes = _removes(slot, realised.version.set, realised.entries.keys()) + _removes(
        slot, empty.set ^ 1, realised.leftover
    )
    return Plan((StoreVersion(slot, empty),), (AwaitGracePeriod(), *removes), {slot: RealisedPolicy(empty, {})}, 0)


def _churn(change: Change) -> tuple[list[Instruction], RealisedPolicy]:
    slot, realised = change.slot, change.realised
    version = realised.version
    added = {key: entry for key, entry in change.desired.items() if key not in realised.entries}
    removed = frozenset(realised.entries.keys() - change.desired.keys())
    steps: list[Instruction] = []
    if added:
        steps.append(PutEntries(slot, version.set, added))
        shapes, named_only = version.shapes | shapes_of(added), version.named_only & named_only_of(added)
        if (shapes, named_only) != (version.shapes, version.named_only):
            version = replace(version, shapes=shapes, named_only=named_only)
            steps.append(StoreVersion(slot, version))
    if removed:
        version = replace(version, revision=version.revision + 1)
        steps += [DeleteEntries(slot, version.set, removed), StoreVersion(slot, version)]
    return steps, RealisedPolicy(version, change.desired)


def _sweep(change: Change) -> list[Instruction]:
    """Remove what an agent left in the other set when it died between a switch and its cleanup."""
    removes = _removes(change.slot, change.realised.version.set ^ 1, change.realised.leftover)
    return [AwaitGracePeriod(), *removes] if removes else []


def _first(change: Change) -> tuple[list[Instruction], RealisedPolicy]:
    """Realise a slot that has denied all: nothing of it can be in use by a program."""
    version = _next_version(change)
    steps: list[Instruction] = [*_write_other(change, version), StoreVersion(change.slot, version)]
    return steps, RealisedPolicy(version, change.desired)


def _switch_one(
    changes: Sequence[Change],
    policy_epoch: int,
    visible: list[Instruction],
    cleanup: list[Instruction],
    after: dict[int, RealisedPolicy],
) -> int:
    (change,) = changes
    version = _next_version(change)
    visible += [*_write_other(change, version), StoreVersion(change.slot, version)]
    cleanup += [AwaitGracePeriod(), *_removes(change.slot, change.realised.version.set, change.realised.entries.keys())]
    after[change.slot] = RealisedPolicy(version, change.desired)
    return policy_epoch


def _switch_together(
    changes: Sequence[Change],
    policy_epoch: int,
    visible: list[Instruction],
    cleanup: list[Instruction],
    after: dict[int, RealisedPolicy],
) -> int:
    """Switch by epoch.

    The second grace period keeps a program that still reads ``next`` from meeting that of a later
    plan.
    """
    policy_epoch += 1
    versions = {change.slot: _next_version(change) for change in changes}
    for change in changes:
        visible += _write_other(change, versions[change.slot])
        after[change.slot] = RealisedPolicy(versions[change.slot], change.desired)
    visible += [StoreNextVersion(slot, version, policy_epoch) for slot, version in versions.items()]
    visible.append(StorePolicyEpoch(policy_epoch))
    cleanup += [StoreVersion(slot, version) for slot, version in versions.items()]
    cleanup.append(AwaitGracePeriod())
    cleanup += [ClearNextVersion(slot) for slot in versions]
    for change in changes:
        cleanup += _removes(change.slot, change.realised.version.set, change.realised.entries.keys())
    cleanup.append(AwaitGracePeriod())
    return policy_epoch


def _next_version(change: Change) -> Version:
    version = change.realised.version
    named_only = named_only_of(change.desired)
    return Version(version.revision + 1, version.set ^ 1, shapes_of(change.desired), named_only=named_only)


def _write_other(change: Change, version: Version) -> list[Instruction]:
    stale = change.realised.leftover - change.desired.keys()
    put: list[Instruction] = [PutEntries(change.slot, version.set, change.desired)] if change.desired else []
    return [*_removes(change.slot, version.set, stale), *put]


def _removes(slot: int, entry_set: int, keys: Iterable[PolicyKey]) -> list[Instruction]:
    gone = frozenset(keys)
    return [DeleteEntries(slot, entry_set, gone)] if gone else []
