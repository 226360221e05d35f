"""Membership of the node, pure: registered or not, and what to do next, after which pause.

::

                   register: answered
    +----------+ ----------------------> +----------+ --- heartbeat, each third of the lease's life
    | outside  |                         | member   | --- silence, refusals: noted; it may live on
    +----------+ <---------------------- +----------+
      |     ^        heartbeat: not_found (the lease has expired; etcd has dropped the node's rows)
      +-----+
    register: refused or no answer; pauses grow, and begin anew once the bus is back
"""

import random
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from msgspec.structs import replace

from cilia.backoff import Backoff
from cilia.contracts.ids import LeaseId
from cilia.contracts.ipam import Heartbeat, Registered, RegisterNode
from cilia.contracts.messages import ProblemCode
from cilia.errors import Refused, Unavailable

FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 10.0
BEATS_PER_LIFE: Final = 3
"""Heartbeats in the time for which a lease lives without one."""


class Action(Enum):
    """Next step of the node."""

    REGISTER = auto()
    HEARTBEAT = auto()
    AWAIT_BUS = auto()
    """Wait for the bus: its return is heard at once, so backing off would only delay us."""


class Membership:
    """State of the node's registration.

    Args:
        own: What the node says of itself, with the lease that it had.
        uniform: Randomness; gives a number between its two arguments.
    """

    def __init__(self, own: RegisterNode, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self.own = own
        self.answer: Registered | None = None
        """Answer to the registration that holds; None: the node is no member."""
        self.last_error = "not registered yet"
        self._uniform = uniform
        self._backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, uniform)
        self._has_failed = False

    @property
    def heartbeat(self) -> Heartbeat:
        """Heartbeat of the lease; only for a member."""
        return Heartbeat(self.own.name, self.own.lease)

    @property
    def answer_seconds(self) -> float:
        """Longest wait for the answer to a heartbeat."""
        return max(1.0, self._ttl_seconds / BEATS_PER_LIFE)

    def next_action(self, *, is_connected: bool) -> Action:
        """Return what to do next, after :meth:`pause_seconds`.

        Args:
            is_connected: The bus is there.
        """
        if self.answer is not None:
            return Action.HEARTBEAT
        return Action.AWAIT_BUS if self._has_failed and not is_connected else Action.REGISTER

    def pause_seconds(self) -> float:
        """Return how long to pause before a registration or a heartbeat."""
        if self.answer is not None:
            return self._ttl_seconds / BEATS_PER_LIFE * self._uniform(0.8, 1.0)
        return self._backoff.next_seconds() if self._has_failed else 0.0

    def bus_returned(self) -> None:
        """Note that the bus is back: what failed before says nothing any more."""
        self._backoff.reset()

    def registered(self, answer: Registered) -> None:
        """Note that the node is a member."""
        self.answer = answer
        self.own = replace(self.own, lease=answer.lease)
        self.last_error = ""
        self._has_failed = False
        self._backoff.reset()

    def not_registered(self, error: Refused | Unavailable) -> bool:
        """Note that the registration failed; tell whether for another reason than before."""
        is_news = str(error) != self.last_error
        self.last_error = str(error)
        self._has_failed = True
        return is_news

    def beaten(self) -> None:
        """Note that the lease lives on."""
        self.last_error = ""

    def not_beaten(self, error: Refused | Unavailable) -> bool:
        """Note that a heartbeat failed; tell whether the lease has expired."""
        if isinstance(error, Refused) and error.problem.code is ProblemCode.NOT_FOUND:
            self.answer = None
            return True
        self.last_error = str(error)
        return False

    @property
    def lease(self) -> LeaseId:
        """Lease of the node; 0: it never had one."""
        return self.own.lease

    @property
    def _ttl_seconds(self) -> float:
        return self.answer.ttl_seconds if self.answer is not None else 0.0
