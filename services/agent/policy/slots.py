"""Slots of policy: index in cilia_policy_slots by identity, on this node.

Pure; owned by the reconciler of policy. A slot that is given up is used again last, and only
after its entries are gone.
"""

from collections import deque
from collections.abc import Mapping

from cilia.contracts.ids import Identity
from services.agent.errors import NoSlot


class Slots:
    """Slots by identity. Slot 0 means "not realised" in cilia_endpoints and is never given out.

    Args:
        limit: Slots in cilia_policy_slots, 0 included.
        taken: Slots that a former agent assigned.
    """

    def __init__(self, limit: int, taken: Mapping[Identity, int] | None = None) -> None:
        self._limit = limit
        self._slots = dict(taken or {})
        used = set(self._slots.values())
        self._free = deque(slot for slot in range(1, limit) if slot not in used)

    def get(self, identity: Identity) -> int:
        """Return the slot of an identity, 0 if it has none."""
        return self._slots.get(identity, 0)

    def items(self) -> tuple[tuple[Identity, int], ...]:
        """Return all assignments."""
        return tuple(self._slots.items())

    def assign(self, identity: Identity) -> int:
        """Return the slot of an identity, giving it one if it has none.

        Raises:
            NoSlot: All are taken.
        """
        slot = self._slots.get(identity)
        if slot is None:
            if not self._free:
                raise NoSlot(identity, self._limit - 1)
            slot = self._slots[identity] = self._free.popleft()
        return slot

    def release(self, identity: Identity) -> None:
        """Give up the slot of an identity, once its entries are gone from the kernel."""
        slot = self._slots.pop(identity, None)
        if slot is not None:
            self._free.append(slot)
