"""Plans of changes: what becomes of each policy that a request names. Pure."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from msgspec.structs import replace

from cilia.contracts.policies import ChangeAction, PolicyChange, SyncPolicies
from cilia.contracts.tables import PolicyObject, policy_object_key
from cilia.policy.engine.rules import Policy
from cilia.policy.errors import BadPolicy
from cilia.policy.language.parse import decode_object
from cilia.telemetry import traceparent
from services.policy.changes.errors import NoSuchPolicies, OwnedByOthers
from services.policy.resolution.stored import StoredPolicy
from services.policy.resolution.trial import DesiredPolicies


@dataclass(frozen=True, slots=True)
class ChangeCause:
    """Reason and author of a change; ``time_ns`` in Unix time."""

    text: str
    author: str
    time_ns: int = field(default_factory=time.time_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRequest:
    """A request as policies by key, before it is known what etcd has of them.

    Attributes:
        must_exist: What it removes has to be there.
        owner: The owner whose policies these are, for a sync; empty: nobody's in particular.
        adopt: The owner takes over what nobody owns.
    """

    desired: DesiredPolicies
    cause: ChangeCause
    dry_run: bool = False
    must_exist: bool = False
    owner: str = ""
    adopt: bool = False

    def plan(self, stored: Mapping[str, StoredPolicy]) -> "ChangePlan":
        """Plan the change of what is stored.

        Raises:
            NoSuchPolicies, OwnedByOthers: It must not be made.
        """
        missing = [key for key in self.desired if key not in stored]
        if self.must_exist and missing:
            raise NoSuchPolicies(missing)
        if self.owner:
            rows = check_owners(self.desired, stored, self.owner, adopt=self.adopt)
        else:
            rows = keep_owners(self.desired, stored)
        return ChangePlan(rows, stored, self.cause)


@dataclass(frozen=True)
class ChangePlan:
    """A change of policies that builds on what is stored.

    Attributes:
        rows: Policies by key as they shall be; None for one that goes.
        stored: Those of them that there are.
    """

    rows: DesiredPolicies
    stored: Mapping[str, StoredPolicy]
    cause: ChangeCause

    @cached_property
    def changes(self) -> tuple[PolicyChange, ...]:
        """Action for each policy."""
        return plan_apply(self.rows, self.stored)

    @cached_property
    def changed(self) -> DesiredPolicies:
        """The policies that are written or removed."""
        return {
            change.key: self.rows[change.key] for change in self.changes if change.action is not ChangeAction.UNCHANGED
        }

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Prefixes that need an identity before the change is stored."""
        return tuple(prefix for row in self.changed.values() if row is not None for prefix in row.prefixes)

    def documents(self, key: str) -> tuple[str, str]:
        """Return a policy's document before and after; empty where there is none."""
        row = self.rows[key]
        before = self.stored[key].row.document if key in self.stored else ""
        return before, row.document if row is not None else ""

    @property
    def shown(self) -> tuple[PolicyChange, ...]:
        """Action for each policy, with its documents before and after."""
        return tuple(PolicyChange(each.key, each.action, *self.documents(each.key)) for each in self.changes)


def plan_apply(desired: DesiredPolicies, stored: Mapping[str, StoredPolicy]) -> tuple[PolicyChange, ...]:
    """Return what becomes of each policy, by its document and owner; None: it shall go."""

    def action(key: str, row: PolicyObject | None) -> ChangeAction:
        if row is None:
            return ChangeAction.DELETED if key in stored else ChangeAction.UNCHANGED
        if key not in stored:
            return ChangeAction.CREATED
        before = stored[key].row
        is_same = (before.document, before.owner, before.file) == (row.document, row.owner, row.file)
        return ChangeAction.UNCHANGED if is_same else ChangeAction.CHANGED

    return tuple(PolicyChange(key, action(key, row)) for key, row in desired.items())


def plan_sync(
    request: SyncPolicies, rows: Mapping[str, PolicyObject], stored: Mapping[str, StoredPolicy]
) -> tuple[PolicyChange, ...]:
    """Plan an owner's policies: those of no file go, unless the file can't be read now."""
    gone = {
        key: None
        for key, found in stored.items()
        if found.row.owner == request.owner and key not in rows and found.row.file not in request.keep
    }
    return plan_apply({**rows, **gone}, stored)


def check_owners(
    desired: DesiredPolicies, stored: Mapping[str, StoredPolicy], owner: str, *, adopt: bool
) -> dict[str, PolicyObject | None]:
    """Return what an owner may change; what became another's meanwhile stays.

    Raises:
        OwnedByOthers: It names a policy of somebody else.
    """
    others = {key: stored[key].row for key in desired if key in stored and stored[key].row.owner != owner}
    for key, row in others.items():
        if desired[key] is not None and (row.owner or not adopt):
            raise OwnedByOthers(key, row)
    return {key: row for key, row in desired.items() if row is not None or key not in others}


def keep_owners(desired: DesiredPolicies, stored: Mapping[str, StoredPolicy]) -> dict[str, PolicyObject | None]:
    """Return what is applied by itself, under the owner that it has."""
    owners = {key: (stored[key].row.owner, stored[key].row.file) for key in desired if key in stored}
    return {
        key: replace(row, owner=owners[key][0], file=owners[key][1]) if row and key in owners else row
        for key, row in desired.items()
    }


def restore(documents: Mapping[str, str], cause: ChangeCause) -> DesiredPolicies:
    """Return policies as their documents of a former revision say; an empty one: it shall go."""
    return {key: _restore(key, document, cause) if document else None for key, document in documents.items()}


def _restore(key: str, document: str, cause: ChangeCause) -> PolicyObject:
    kind, namespace, name = key.split("/")
    row = PolicyObject(kind, namespace, name, document, cause.author, cause.time_ns, traceparent())
    try:
        policy = decode_object(row).policy
    except BadPolicy:  # another version accepted it: it has no rule of ours, and so no peer
        return row
    return replace(row, prefixes=prefixes_of(policy))


def prefixes_of(policy: Policy) -> tuple[str, ...]:
    """Return the prefixes that need an identity while a policy is in force.

    All of a family is the world, which has one.
    """
    if policy.shadow:
        return ()
    return tuple(sorted(str(prefix) for prefix in policy.prefixes if prefix.prefixlen))


def object_key(row: PolicyObject) -> str:
    """Return the key of a policy object."""
    return policy_object_key(row.kind, row.namespace, row.name)


def by_key(objects: Sequence[PolicyObject]) -> dict[str, PolicyObject]:
    """Return policy objects by their keys."""
    return {object_key(row): row for row in objects}
