"""Policies in etcd: all of a request in one transaction, or nothing of it.

What is stored is what was accepted, so that every replica, now and after a restart, resolves the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from cilia.contracts.ids import Revision
from cilia.contracts.keys import Keys
from cilia.contracts.messages import PoliciesChanged, PolicyChange, Problem
from cilia.contracts.tables import PolicyObject, policy_object_key
from cilia.errors import Refused
from cilia.kvstore import Compare, Etcd, Op, Txn, absent, delete, get, put, unchanged

ATTEMPTS: Final = 8
MOST_POLICIES: Final = 128
"""Of one request: what etcd takes in one transaction (--max-txn-ops)."""

_OBJECT: Final = msgspec.json.Decoder(PolicyObject)


class TooManyPolicies(Refused):
    """A request names more policies than one transaction takes."""

    def __init__(self, count: int) -> None:
        text = f"{count} policies in one request; one transaction takes at most {MOST_POLICIES}"
        super().__init__(Problem("invalid", text, field="text", value=str(count)))


class NoSuchPolicies(Refused):
    """A request deletes what isn't there."""

    def __init__(self, keys: Sequence[str]) -> None:
        text = f"there is no policy {', '.join(keys)}; nothing was deleted"
        super().__init__(Problem("not_found", text, field="keys", value=keys[0]))


class PoliciesContended(Refused):
    """Others changed the same policies at the same time, time and again."""

    def __init__(self) -> None:
        super().__init__(Problem("busy", f"the same policies changed {ATTEMPTS} times meanwhile; try again"))


@dataclass(frozen=True, slots=True)
class Stored:
    """A policy in etcd."""

    row: PolicyObject
    revision: Revision


@dataclass(frozen=True, slots=True)
class Store:
    """Reads and writes policies."""

    etcd: Etcd
    keys: Keys

    async def apply(self, objects: Sequence[PolicyObject], *, dry_run: bool = False) -> PoliciesChanged:
        """Store policies; those whose document is stored already stay as they are.

        Returns:
            The revision from which on all of them hold, and what became of each.

        Raises:
            TooManyPolicies, PoliciesContended, Unavailable: Nothing was stored.
        """
        rows = {object_key(row): row for row in objects}
        for _ in range(ATTEMPTS):
            stored, now = await self._read(tuple(rows))
            changes = plan_apply(rows, stored)
            changed = [change.key for change in changes if change.action != "unchanged"]
            if not changed:
                return PoliciesChanged(max((found.revision for found in stored.values()), default=now), changes)
            if dry_run:
                return PoliciesChanged(now, changes)
            ops = [put(self.keys.policy(key), msgspec.json.encode(rows[key])) for key in changed]
            outcome = await self.etcd.txn(Txn(self._as_read(rows, stored), ops))
            if outcome.succeeded:
                return PoliciesChanged(Revision(outcome.revision), changes)
        raise PoliciesContended

    async def delete(self, keys: Sequence[str]) -> PoliciesChanged:
        """Remove policies, all or none.

        Raises:
            NoSuchPolicies, TooManyPolicies, PoliciesContended, Unavailable: Nothing was removed.
        """
        wanted = tuple(dict.fromkeys(keys))
        for _ in range(ATTEMPTS):
            stored, now = await self._read(wanted)
            missing = [key for key in wanted if key not in stored]
            if missing:
                raise NoSuchPolicies(missing)
            if not wanted:
                return PoliciesChanged(now, ())
            ops: list[Op] = [delete(self.keys.policy(key)) for key in wanted]
            outcome = await self.etcd.txn(Txn(self._as_read(wanted, stored), ops))
            if outcome.succeeded:
                changes = tuple(PolicyChange(key, "deleted") for key in wanted)
                return PoliciesChanged(Revision(outcome.revision), changes)
        raise PoliciesContended

    async def _read(self, keys: Sequence[str]) -> tuple[dict[str, Stored], Revision]:
        if len(keys) > MOST_POLICIES:
            raise TooManyPolicies(len(keys))
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


def object_key(row: PolicyObject) -> str:
    """Return the key of a policy object."""
    return policy_object_key(row.kind, row.namespace, row.name)


def plan_apply(rows: Mapping[str, PolicyObject], stored: Mapping[str, Stored]) -> tuple[PolicyChange, ...]:
    """Tell what becomes of each policy: ``created``, ``changed`` or ``unchanged``, by its document alone."""

    def action(key: str) -> str:
        if key not in stored:
            return "created"
        return "unchanged" if stored[key].row.document == rows[key].document else "changed"

    return tuple(PolicyChange(key, action(key)) for key in rows)
