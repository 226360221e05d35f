"""Transactions of changes: policies, their cause and the revision, all or none. Pure."""

from collections.abc import Iterable
from typing import Final

import msgspec

from cilia.contracts.history import PolicyRevision, PolicyStep
from cilia.contracts.ids import Revision
from cilia.contracts.keys import Cause, Keys
from cilia.contracts.tables import PolicyObject
from cilia.kvstore import Compare, Op, Record, Txn, absent, delete, put, unchanged
from cilia.telemetry import traceparent
from services.policy.changes.plan import ChangePlan
from services.policy.history.changelog import record_change
from services.policy.resolution.stored import StoredPolicy

OVERHEAD: Final = 2
"""Operations of a change's transaction that are no policy: its cause, and its revision."""

_OBJECT: Final = msgspec.json.Decoder(PolicyObject)


def write_change(keys: Keys, plan: ChangePlan) -> Txn:
    """Return the transaction that makes a change if the policies are as they were read."""
    return Txn([_as_read(keys, plan, key) for key in plan.rows], _operations(keys, plan))


def _as_read(keys: Keys, plan: ChangePlan, key: str) -> Compare:
    if key in plan.stored:
        return unchanged(keys.policy(key), plan.stored[key].revision)
    return absent(keys.policy(key))


def _operations(keys: Keys, plan: ChangePlan) -> list[Op]:
    cause = plan.cause
    steps = tuple(PolicyStep(key, *plan.documents(key)) for key in plan.changed)
    writes = [
        delete(keys.policy(key)) if row is None else put(keys.policy(key), msgspec.json.encode(row))
        for key, row in plan.changed.items()
    ]
    known = put(keys.policy_cause, msgspec.json.encode(Cause(traceparent(), cause.time_ns)))
    return [*writes, known, record_change(keys, PolicyRevision(cause.author, cause.time_ns, cause.text, steps))]


def read_stored(keys: Keys, records: Iterable[Record]) -> dict[str, StoredPolicy]:
    """Return policies of etcd by their keys."""
    return {
        record.key.removeprefix(keys.policies): StoredPolicy(
            _OBJECT.decode(record.value), Revision(record.mod_revision)
        )
        for record in records
    }
