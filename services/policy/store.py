"""Policies in etcd: all of a request in one transaction, or nothing of it.

What is stored is what was accepted, so that every replica, now and after a restart, resolves the
same.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from cilia.contracts.history import PolicyRevision, PolicyStep, RollbackPolicies
from cilia.contracts.ids import Revision
from cilia.contracts.keys import Cause as KnownCause
from cilia.contracts.keys import Keys
from cilia.contracts.messages import Problem, ProblemCode
from cilia.contracts.policies import ChangeAction, NodeForecast, PoliciesChanged, PolicyChange, SyncPolicies
from cilia.contracts.tables import PolicyObject, policy_object_key
from cilia.errors import Refused
from cilia.kvstore import Compare, Etcd, Op, TransactionTooLarge, Txn, absent, delete, get, put, unchanged
from cilia.policy.engine.rules import Policy
from cilia.policy.errors import BadPolicy
from cilia.policy.language.parse import decode_object
from cilia.policy.observed.revisions import documents_at
from cilia.telemetry import traceparent
from services.policy.history import Changelog, record_change
from services.policy.state import Stored

ATTEMPTS: Final = 8
BESIDE_POLICIES: Final = 2
"""Operations of a change's transaction that are no policy: its cause, and its revision."""

_OBJECT: Final = msgspec.json.Decoder(PolicyObject)


class TooManyPolicies(Refused):
    """A request names more policies than one transaction takes."""

    def __init__(self, count: int, most: int) -> None:
        text = f"{count:,} policies in one request; one transaction of etcd takes at most {most:,} (max-txn-ops)"
        super().__init__(Problem(ProblemCode.INVALID, text, field="text", value=str(count)))


class ChangeTooLarge(Refused):
    """A change, with the documents before and after that its revision keeps, has too many bytes for
    one transaction.
    """

    def __init__(self, count: int, error: TransactionTooLarge) -> None:
        text = f"a change of {count:,} policies is {error}; nothing was changed"
        super().__init__(Problem(ProblemCode.INVALID, text, field="text", value=str(count)))


class NoSuchPolicies(Refused):
    """A request deletes what isn't there."""

    def __init__(self, keys: Sequence[str]) -> None:
        text = f"there is no policy {', '.join(keys)}; nothing was deleted"
        super().__init__(Problem(ProblemCode.NOT_FOUND, text, field="keys", value=keys[0]))


class OwnedByOthers(Refused):
    """An owner's source names a policy that somebody else keeps or applied."""

    def __init__(self, key: str, row: PolicyObject) -> None:
        whose = f"{row.owner} keeps" if row.owner else f"{row.author or 'somebody'} applied"
        text = f"{key} is a policy that {whose}; delete it first, or adopt what nobody owns"
        super().__init__(Problem(ProblemCode.CONFLICT, text, field="metadata.name", value=row.name))


class PoliciesContended(Refused):
    """Others changed the same policies at the same time, time and again."""

    def __init__(self) -> None:
        super().__init__(Problem(ProblemCode.BUSY, f"the same policies changed {ATTEMPTS} times meanwhile; try again"))


@dataclass(frozen=True, slots=True)
class Cause:
    """Why policies change, and by whom; ``time_ns`` in Unix time."""

    text: str
    author: str
    time_ns: int = field(default_factory=time.time_ns)


Admit = Callable[[Mapping[str, PolicyObject | None]], Awaitable[tuple[NodeForecast, ...]]]
"""Forecasts a change; raises Refused if it has no room."""


async def admit_all(_: Mapping[str, PolicyObject | None]) -> tuple[NodeForecast, ...]:
    """Let every change pass, where nobody knows the nodes."""
    return ()


Reserve = Callable[[Iterable[str]], Awaitable[None]]
"""Has identities for prefixes before a policy names them."""


async def reserve_nothing(_: Iterable[str]) -> None:
    """Name prefixes without an identity, where nobody makes any."""


@dataclass(frozen=True, slots=True)
class Store:
    """Reads and writes policies."""

    etcd: Etcd
    keys: Keys
    admit: Admit = admit_all
    reserve: Reserve = reserve_nothing
    """Has identities for prefixes before a policy names them."""
    known: Mapping[str, Stored] = field(default_factory=dict)
    """What this replica has heard of; etcd may be ahead.

    Enough to begin with: a transaction says what it builds on.
    """

    async def apply(self, objects: Sequence[PolicyObject], *, dry_run: bool = False) -> PoliciesChanged:
        """Store policies; those whose document is stored already stay as they are.

        Returns:
            The revision from which on all of them hold, and what became of each.

        Raises:
            TooManyPolicies, ChangeTooLarge, TooManyEntries, PoliciesContended, Unavailable: Nothing
            was stored.
        """
        rows = {object_key(row): row for row in objects}
        author = objects[0].author if objects else ""
        return await self._change(rows, Cause("apply", author), dry_run=dry_run)

    async def sync(self, request: SyncPolicies, rows: Mapping[str, PolicyObject]) -> PoliciesChanged:
        """Make the policies of an owner these, but for those from files that it can't read now.

        Raises:
            OwnedByOthers, TooManyPolicies, ChangeTooLarge, TooManyEntries: Nothing was changed.
            PoliciesContended, Unavailable: Likewise.
        """
        records, revision = await self.etcd.range(self.keys.policies)
        stored = {
            record.key.removeprefix(self.keys.policies): Stored(
                _OBJECT.decode(record.value), Revision(record.mod_revision)
            )
            for record in records
        }
        gone = {
            key: None
            for key, found in stored.items()
            if found.row.owner == request.owner and key not in rows and found.row.file not in request.keep
        }
        planned = plan_apply({**rows, **gone}, stored)
        changed = {
            change.key: rows.get(change.key) for change in planned if change.action is not ChangeAction.UNCHANGED
        }
        if not changed:
            return PoliciesChanged(Revision(revision), planned)
        cause = Cause(f"sync of {request.owner}", request.author)
        return await self._change(changed, cause, dry_run=request.dry_run, owner=request.owner, adopt=request.adopt)

    async def delete(self, keys: Sequence[str], *, author: str = "") -> PoliciesChanged:
        """Remove policies, all or none.

        Raises:
            NoSuchPolicies, TooManyPolicies, ChangeTooLarge, PoliciesContended, Unavailable: Nothing
            was removed.
        """
        return await self._change(dict.fromkeys(keys), Cause("delete", author), must_exist=True)

    async def rollback(self, request: RollbackPolicies) -> PoliciesChanged:
        """Make all policies what they were at a revision.

        Raises:
            HistoryTooShort, TooManyPolicies, ChangeTooLarge, TooManyEntries: Nothing was changed.
            PoliciesContended, Unavailable: Likewise.
        """
        rows = await Changelog(self.etcd, self.keys).since(request.revision)
        cause = Cause(f"rollback to {request.revision}", request.author)
        wanted = {
            key: _restored(key, document, cause) if document else None
            for key, document in documents_at(rows, request.revision).items()
        }
        return await self._change(wanted, cause, dry_run=request.dry_run)

    async def _change(
        self,
        wanted: Mapping[str, PolicyObject | None],
        cause: Cause,
        *,
        dry_run: bool = False,
        must_exist: bool = False,
        owner: str = "",
        adopt: bool = False,
    ) -> PoliciesChanged:
        """Write (or with None remove) policies, and with them, in the same transaction, the
        revision.
        """
        most = self.etcd.limits.operations - BESIDE_POLICIES
        if len(wanted) > most:
            raise TooManyPolicies(len(wanted), most)
        for attempt in range(ATTEMPTS):
            is_read = bool(attempt or dry_run or must_exist or owner)
            stored, now = await self._read(tuple(wanted)) if is_read else (self._recall(wanted), Revision(0))
            missing = [key for key in wanted if key not in stored]
            if must_exist and missing:
                raise NoSuchPolicies(missing)
            rows = _check_owners(wanted, stored, owner, adopt=adopt) if owner else _with_owners(wanted, stored)
            changes = plan_apply(rows, stored)
            changed = [change.key for change in changes if change.action is not ChangeAction.UNCHANGED]
            if not changed and not is_read:
                continue
            if not changed:
                return PoliciesChanged(max((found.revision for found in stored.values()), default=now), changes)
            forecast = await self.admit({key: rows[key] for key in changed})
            txn = self._transaction(changed, rows, stored, cause)
            if dry_run:
                shown = tuple(_with_documents(change, rows, stored) for change in changes)
                return PoliciesChanged(now, shown, forecast)
            await self.reserve(prefix for key in changed for prefix in _named_by(rows[key]))
            outcome = await self.etcd.txn(txn)
            if outcome.succeeded:
                return PoliciesChanged(Revision(outcome.revision), changes)
        raise PoliciesContended

    def _transaction(
        self,
        changed: Sequence[str],
        wanted: Mapping[str, PolicyObject | None],
        stored: Mapping[str, Stored],
        cause: Cause,
    ) -> Txn:
        """Return what changes policies if they are as they were read.

        Raises:
            ChangeTooLarge: etcd would not take it.
        """
        txn = Txn(self._as_read(wanted, stored), self._operations(changed, wanted, stored, cause))
        try:
            self.etcd.limits.check(txn.request())
        except TransactionTooLarge as error:
            raise ChangeTooLarge(len(changed), error) from error
        return txn

    def _operations(
        self,
        changed: Sequence[str],
        wanted: Mapping[str, PolicyObject | None],
        stored: Mapping[str, Stored],
        cause: Cause,
    ) -> list[Op]:
        steps = [PolicyStep(key, *_documents(key, wanted, stored)) for key in changed]
        revision = PolicyRevision(cause.author, cause.time_ns, cause.text, tuple(steps))
        writes = [
            delete(self.keys.policy(key)) if row is None else put(self.keys.policy(key), msgspec.json.encode(row))
            for key, row in ((key, wanted[key]) for key in changed)
        ]
        known = put(self.keys.policy_cause, msgspec.json.encode(KnownCause(traceparent(), cause.time_ns)))
        return [*writes, known, record_change(self.keys, revision)]

    def _recall(self, keys: Iterable[str]) -> dict[str, Stored]:
        return {key: self.known[key] for key in keys if key in self.known}

    async def _read(self, keys: Sequence[str]) -> tuple[dict[str, Stored], Revision]:
        outcome = await self.etcd.txn(Txn((), [get(self.keys.policy(key)) for key in keys]))
        stored = {
            record.key.removeprefix(self.keys.policies): Stored(
                _OBJECT.decode(record.value), Revision(record.mod_revision)
            )
            for record in outcome.records
        }
        return stored, Revision(outcome.revision)

    def _as_read(self, keys: Mapping[str, object] | Sequence[str], stored: Mapping[str, Stored]) -> list[Compare]:
        return [
            unchanged(self.keys.policy(key), stored[key].revision) if key in stored else absent(self.keys.policy(key))
            for key in keys
        ]


def prefixes_of(policy: Policy) -> tuple[str, ...]:
    """Return the prefixes that need an identity while a policy is in force; all of a family is the
    world, which has.
    """
    if policy.shadow:
        return ()
    return tuple(sorted(str(prefix) for prefix in policy.prefixes if prefix.prefixlen))


def _named_by(row: PolicyObject | None) -> tuple[str, ...]:
    return row.prefixes if row is not None else ()


def object_key(row: PolicyObject) -> str:
    """Return the key of a policy object."""
    return policy_object_key(row.kind, row.namespace, row.name)


def _check_owners(
    wanted: Mapping[str, PolicyObject | None], stored: Mapping[str, Stored], owner: str, *, adopt: bool
) -> dict[str, PolicyObject | None]:
    """Return what an owner may change; what became another's meanwhile stays.

    Raises:
        OwnedByOthers: It names a policy of somebody else.
    """
    others = {key: stored[key].row for key in wanted if key in stored and stored[key].row.owner != owner}
    for key, row in others.items():
        if wanted[key] is not None and (row.owner or not adopt):
            raise OwnedByOthers(key, row)
    return {key: row for key, row in wanted.items() if row is not None or key not in others}


def _with_owners(
    wanted: Mapping[str, PolicyObject | None], stored: Mapping[str, Stored]
) -> dict[str, PolicyObject | None]:
    """Return what is applied by itself, under the owner that it has: that one will put it right
    again.
    """
    owners = {key: (stored[key].row.owner, stored[key].row.file) for key in wanted if key in stored}
    return {
        key: msgspec.structs.replace(row, owner=owners[key][0], file=owners[key][1]) if row and key in owners else row
        for key, row in wanted.items()
    }


def plan_apply(wanted: Mapping[str, PolicyObject | None], stored: Mapping[str, Stored]) -> tuple[PolicyChange, ...]:
    """Tell what becomes of each policy, by its document and owner; None stands for one that is to
    go.
    """

    def action(key: str, row: PolicyObject | None) -> ChangeAction:
        if row is None:
            return ChangeAction.DELETED if key in stored else ChangeAction.UNCHANGED
        if key not in stored:
            return ChangeAction.CREATED
        before = stored[key].row
        is_same = (before.document, before.owner, before.file) == (row.document, row.owner, row.file)
        return ChangeAction.UNCHANGED if is_same else ChangeAction.CHANGED

    return tuple(PolicyChange(key, action(key, row)) for key, row in wanted.items())


def _documents(key: str, wanted: Mapping[str, PolicyObject | None], stored: Mapping[str, Stored]) -> tuple[str, str]:
    """Return a policy's document before and after; empty where there is none."""
    row = wanted[key]
    return stored[key].row.document if key in stored else "", row.document if row is not None else ""


def _with_documents(
    change: PolicyChange, wanted: Mapping[str, PolicyObject | None], stored: Mapping[str, Stored]
) -> PolicyChange:
    before, after = _documents(change.key, wanted, stored)
    return PolicyChange(change.key, change.action, before, after)


def _restored(key: str, document: str, cause: Cause) -> PolicyObject:
    kind, namespace, name = key.split("/")
    row = PolicyObject(kind, namespace, name, document, cause.author, cause.time_ns, traceparent())
    try:
        policy = decode_object(row).policy
    except BadPolicy:  # another version accepted it: it has no rule of ours, and so no peer
        return row
    return msgspec.structs.replace(row, prefixes=prefixes_of(policy))
