"""Policies as etcd has them."""

from dataclasses import dataclass

from cilia.contracts.ids import Revision
from cilia.contracts.tables import PolicyObject


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy in etcd, and the revision that last changed it."""

    row: PolicyObject
    revision: Revision
