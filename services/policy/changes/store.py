"""Store of policies in etcd: all of a request in one transaction, or nothing of it.

What is stored is what was accepted, so that every replica, now and after a restart, resolves the
same.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cilia.contracts.history import RollbackPolicies
from cilia.contracts.ids import Revision
from cilia.contracts.keys import Keys
from cilia.contracts.policies import ChangeAction, NodeForecast, PoliciesChanged, SyncPolicies
from cilia.contracts.tables import PolicyObject
from cilia.kvstore import Etcd, TransactionTooLarge, Txn, TxnResult, get
from services.policy.changes.errors import ATTEMPTS, ChangeTooLarge, PoliciesContended, TooManyPolicies
from services.policy.changes.plan import ChangeCause, ChangePlan, ChangeRequest, by_key, plan_sync, restore
from services.policy.changes.transaction import OVERHEAD, read_stored, write_change
from services.policy.history.changelog import Changelog
from services.policy.history.revisions import documents_at
from services.policy.resolution.stored import StoredPolicy
from services.policy.resolution.trial import DesiredPolicies


class Admits(Protocol):
    """Admission of changes, as :class:`services.policy.changes.capacity.Admission` gives it."""

    async def admit(self, desired: DesiredPolicies) -> tuple[NodeForecast, ...]:
        """Forecast a change that is to be made; raise Refused if it has no room."""
        ...

    async def forecast(self, desired: DesiredPolicies) -> tuple[NodeForecast, ...]:
        """Forecast a change that isn't made; raise likewise."""
        ...

    def withdraw(self, desired: DesiredPolicies) -> None:
        """Take note that an admitted change isn't made."""
        ...


Reserve = Callable[[Iterable[str]], Awaitable[None]]
"""Reservation of identities for prefixes, before a policy names them."""


@dataclass(frozen=True, slots=True)
class Store:
    """Reader and writer of policies.

    Attributes:
        known: Policies of which this replica has heard; etcd may be ahead. Enough to begin with: a
            transaction says what it builds on.
    """

    etcd: Etcd
    keys: Keys
    admission: Admits
    reserve: Reserve
    known: Mapping[str, StoredPolicy]

    async def apply(self, objects: Sequence[PolicyObject], *, dry_run: bool = False) -> PoliciesChanged:
        """Store policies; those whose document is stored already stay as they are.

        Returns:
            The revision from which on all of them hold, and what became of each.

        Raises:
            TooManyPolicies, ChangeTooLarge, TooManyEntries, PoliciesContended, Unavailable: Nothing
            was stored.
        """
        author = objects[0].author if objects else ""
        cause = ChangeCause("apply", author)
        return await self._change(ChangeRequest(desired=by_key(objects), cause=cause, dry_run=dry_run))

    async def sync(self, request: SyncPolicies, rows: Mapping[str, PolicyObject]) -> PoliciesChanged:
        """Make the policies of an owner these, but for those from files that it can't read now.

        Raises:
            OwnedByOthers, TooManyPolicies, ChangeTooLarge, TooManyEntries: Nothing was changed.
            PoliciesContended, Unavailable: Likewise.
        """
        records, revision = await self.etcd.range(self.keys.policies)
        planned = plan_sync(request, rows, read_stored(self.keys, records))
        changed = {
            change.key: rows.get(change.key) for change in planned if change.action is not ChangeAction.UNCHANGED
        }
        if not changed:
            return PoliciesChanged(Revision(revision), planned)
        cause = ChangeCause(f"sync of {request.owner}", request.author)
        return await self._change(
            ChangeRequest(
                desired=changed, cause=cause, dry_run=request.dry_run, owner=request.owner, adopt=request.adopt
            )
        )

    async def delete(self, keys: Sequence[str], *, author: str = "") -> PoliciesChanged:
        """Remove policies, all or none.

        Raises:
            NoSuchPolicies, TooManyPolicies, ChangeTooLarge, PoliciesContended, Unavailable: Nothing
            was removed.
        """
        cause = ChangeCause("delete", author)
        return await self._change(ChangeRequest(desired=dict.fromkeys(keys), cause=cause, must_exist=True))

    async def rollback(self, request: RollbackPolicies) -> PoliciesChanged:
        """Make all policies what they were at a revision.

        Raises:
            HistoryTooShort, TooManyPolicies, ChangeTooLarge, TooManyEntries: Nothing was changed.
            PoliciesContended, Unavailable: Likewise.
        """
        rows = await Changelog(self.etcd, self.keys).since(request.revision)
        cause = ChangeCause(f"rollback to {request.revision}", request.author)
        desired = restore(documents_at(rows, request.revision), cause)
        return await self._change(ChangeRequest(desired=desired, cause=cause, dry_run=request.dry_run))

    async def _change(self, request: ChangeRequest) -> PoliciesChanged:
        """Make a change, and write its revision in the same transaction."""
        most = self.etcd.limits.operations - OVERHEAD
        if len(request.desired) > most:
            raise TooManyPolicies(len(request.desired), most)
        for attempt in range(ATTEMPTS):
            is_read = bool(attempt or request.dry_run or request.must_exist or request.owner)
            keys = tuple(request.desired)
            stored, now = await self._read(keys) if is_read else (self._recall(keys), Revision(0))
            plan = request.plan(stored)
            if not plan.changed and not is_read:
                continue
            if not plan.changed:
                return PoliciesChanged(max((found.revision for found in stored.values()), default=now), plan.changes)
            txn = self._transaction(plan)
            if request.dry_run:
                return PoliciesChanged(now, plan.shown, await self.admission.forecast(plan.changed))
            await self.reserve(plan.prefixes)  # before it is tried: what is tried, is what comes
            outcome = await self._make(plan.changed, txn)
            if outcome.succeeded:
                return PoliciesChanged(Revision(outcome.revision), plan.changes)
        raise PoliciesContended

    async def _make(self, changed: DesiredPolicies, txn: Txn) -> TxnResult:
        await self.admission.admit(changed)
        succeeded = False
        try:
            outcome = await self.etcd.txn(txn)
            succeeded = outcome.succeeded
        finally:
            if not succeeded:
                self.admission.withdraw(changed)
        return outcome

    def _transaction(self, plan: ChangePlan) -> Txn:
        """Return the transaction of a change.

        Raises:
            ChangeTooLarge: etcd would not take it.
        """
        txn = write_change(self.keys, plan)
        try:
            self.etcd.limits.check(txn.request())
        except TransactionTooLarge as error:
            raise ChangeTooLarge(len(plan.changed), error) from error
        return txn

    def _recall(self, keys: Iterable[str]) -> dict[str, StoredPolicy]:
        return {key: self.known[key] for key in keys if key in self.known}

    async def _read(self, keys: Iterable[str]) -> tuple[dict[str, StoredPolicy], Revision]:
        outcome = await self.etcd.txn(Txn((), [get(self.keys.policy(key)) for key in keys]))
        return read_stored(self.keys, outcome.records), Revision(outcome.revision)
