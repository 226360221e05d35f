"""Reconciler of the non-masquerade CIDRs.

Additions are written at once; what a former agent left and nobody wants goes once the table of
nodes is complete.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, Protocol

from cilia.backoff import Backoff
from cilia.contracts.ids import NodeName
from cilia.contracts.tables import Node
from cilia.reconcile.plan import Plan
from cilia.reconcile.reconciler import Reconciler, Target
from services.agent.address import Prefix, cidr_of
from services.agent.nat.desired import NonMasqueradeCidrs

BATCH: Final = 4096
FIRST_RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 5.0


class NonMasqueradeTable(Target[Prefix, int], Protocol):
    """Kernel table of prefixes, such as :class:`~services.agent.nat.maps.NonMasqueradeMap`."""

    def read(self) -> dict[Prefix, int]:
        """Return all prefixes in it."""
        ...


class NonMasqueradeReconciler(Reconciler[Prefix, int]):
    """Keeps cilia_non_masquerade as desired.

    ``run`` and ``prune`` go to the supervisor, the table of nodes to ``feed``.
    """

    def __init__(
        self, cidrs: NonMasqueradeCidrs, table: NonMasqueradeTable, wait_complete: Callable[[], Awaitable[None]]
    ) -> None:
        plan = Plan(
            cidrs.desired,
            table.read(),
            new_backoff=lambda: Backoff(FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS),
            matches=lambda present, wanted: True,
        )
        super().__init__(
            "non-masquerade CIDR",
            plan,
            table,
            cidrs.take_changes,
            batch=BATCH,
            wait_complete=wait_complete,
            describe=cidr_of,
        )
        self._cidrs = cidrs

    def feed(self, upserts: Mapping[NodeName, Node], removes: Iterable[NodeName]) -> None:
        """Take changes of the table of nodes."""
        self._cidrs.feed(upserts, removes)
        self.wake()
