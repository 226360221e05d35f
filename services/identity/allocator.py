"""Numbers for label sets, unique in the cluster: every allocation is one transaction in etcd.

Any number of replicas allocate at once. The cache of a replica, which may lag, only proposes::

    labels known as n   if value/<labels> = n:          put the use
    labels unknown      if no value/<labels>, no id/n:  put id/n, value/<labels>, the use
                        else the value that is there tells the number, or another has taken n

Whoever begins to use an identity removes the mark of garbage collection in the same transaction
(gc_plan.py).
"""

from collections.abc import Callable, Container
from dataclasses import dataclass
from random import Random
from typing import Final

from cilia.backoff import Backoff
from cilia.contracts.ids import Identity, Revision
from cilia.contracts.keys import Keys
from cilia.kvstore import Etcd, Op, Txn, absent, delete, get, put, value_is
from services.identity.cache import IdentityCache
from services.identity.errors import IdentitiesExhausted, TooContended
from services.identity.member import Member
from services.identity.numbers import pick_number

ATTEMPTS: Final = 12
FIRST_PAUSE_SECONDS: Final = 0.002
LONGEST_PAUSE_SECONDS: Final = 0.1

Use = Callable[[Identity], Op]
"""Writes what uses the identity: a reference, or an endpoint's row."""


@dataclass(frozen=True, slots=True)
class _AnyOf(Container[Identity]):
    known: Container[Identity]
    lost: Container[Identity]

    def __contains__(self, number: object) -> bool:
        return number in self.known or number in self.lost


@dataclass(frozen=True, slots=True)
class Allocator:
    """Finds or makes the identity of a label set."""

    etcd: Etcd
    keys: Keys
    cache: IdentityCache
    numbers: range
    random: Random

    async def reserve(self, canonical: str) -> tuple[Identity, Revision]:
        """Have an identity that nobody is said to use; it goes in time unless the cache finds a
        use of it.

        Raises:
            IdentitiesExhausted, TooContended, Unavailable: As :meth:`allocate`.
        """
        return await self._attempt(canonical, None)

    async def allocate(self, canonical: str, use: Use, member: Member | None = None) -> tuple[Identity, Revision]:
        """Write ``use`` of the identity of ``canonical``, which is made if need be.

        Args:
            member: The node that it is for; None: no node's.

        Returns:
            The identity, and the revision at which it and its use exist.

        Raises:
            IdentitiesExhausted: The labels are new, and every number is in use.
            NotMember: The node has been removed.
            TooContended: Others won every attempt.
            Unavailable: etcd doesn't answer.
        """
        return await self._attempt(canonical, use, member)

    async def _attempt(
        self, canonical: str, use: Use | None, member: Member | None = None
    ) -> tuple[Identity, Revision]:
        known = self.cache.number_of(canonical)
        lost: set[Identity] = set()
        backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, self.random.uniform)
        for _ in range(ATTEMPTS):
            number = self._free_number(lost) if known is None else known
            outcome = await self.etcd.txn(self._transaction(number, canonical, use, member, is_new=known is None))
            if outcome.succeeded:
                return number, Revision(outcome.revision)
            if member is not None:
                member.require(outcome)
            found = outcome.value(self.keys.identity_value(canonical))
            if found is None and known is None:  # the labels are still free, so somebody took the number
                lost.add(number)
                await backoff.pause()
            known = None if found is None else Identity(int(found))
        raise TooContended(f"identity of {canonical}", ATTEMPTS)

    def _transaction(
        self, number: Identity, canonical: str, use: Use | None, member: Member | None, *, is_new: bool
    ) -> Txn:
        master, value = self.keys.identity(number), self.keys.identity_value(canonical)
        unmark = delete(self.keys.identity_unused(number))
        begin_use = (unmark,) if use is None else (use(number), unmark)
        conditions = () if member is None else (member.condition,)
        reads = (get(value),) if member is None else (get(value), member.read)
        if not is_new:
            return Txn((value_is(value, str(number).encode()), *conditions), begin_use, reads)
        make = (put(master, canonical.encode()), put(value, str(number).encode()))
        return Txn((absent(value), absent(master), *conditions), make + begin_use, reads)

    def _free_number(self, lost: set[Identity]) -> Identity:
        number = pick_number(self.numbers, _AnyOf(self.cache.identities, lost), self.random)
        if number is None:
            raise IdentitiesExhausted(self.numbers)
        return number
