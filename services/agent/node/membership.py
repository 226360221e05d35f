"""Membership of the node, pure: registered or not, and what to do next, after which pause.

::

                   register: answered
    +----------+ ----------------------> +----------+ --- heartbeat, three before it is stale
    | outside  |                         | member   | --- silence, refusals: noted; it stays
    +----------+ <---------------------- +----------+
      |     ^        heartbeat: not_found (the node was removed, with its blocks and rows)
      +-----+
    register: refused or no answer; pauses grow, and begin anew once the bus is back
"""

import random
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from msgspec.structs import replace

from cilia.backoff import Backoff
from cilia.contracts.ids import Incarnation
from cilia.contracts.ipam import Heartbeat, Registered, RegisterNode
from cilia.contracts.messages import ProblemCode
from cilia.errors import Refused, Unavailable

FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 10.0
BEATS: Final = 3
"""Heartbeats in the time after which a node without one is stale."""
LEAST_ANSWER_SECONDS: Final = 1.0
ATTEMPTS: Final = 3
"""Tries of one heartbeat: the replica that was asked may be about to be succeeded."""


class Action(Enum):
    """Next step of the node."""

    REGISTER = auto()
    HEARTBEAT = auto()
    AWAIT_BUS = auto()
    """Wait for the bus: its return is heard at once, so backing off would only delay us."""


class Membership:
    """State of the node's registration.

    Args:
        own: What the node says of itself, with the incarnation that it had.
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
        self._is_due = False
        self._tries = 0

    @property
    def heartbeat(self) -> Heartbeat:
        """Heartbeat of the node; only for a member."""
        return Heartbeat(self.own.name, self.own.incarnation)

    @property
    def answer_seconds(self) -> float:
        """Longest wait for the answer to one try of a heartbeat."""
        return max(LEAST_ANSWER_SECONDS, self._beat_seconds / ATTEMPTS / 2)

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
            if self._is_due:
                return 0.0
            share = ATTEMPTS if self._tries else 1
            return self._beat_seconds / share * self._uniform(0.8, 1.0)
        return self._backoff.next_seconds() if self._has_failed else 0.0

    def bus_returned(self) -> None:
        """Note that the bus is back: what failed before says nothing any more."""
        self._backoff.reset()

    def registered(self, answer: Registered) -> None:
        """Note that the node is a member."""
        self.answer = answer
        self.own = replace(self.own, incarnation=answer.incarnation)
        self.last_error = ""
        self._has_failed = False
        self._is_due = True
        self._backoff.reset()

    def not_registered(self, error: Refused | Unavailable) -> bool:
        """Note that the registration failed; tell whether for another reason than before."""
        is_news = str(error) != self.last_error
        self.last_error = str(error)
        self._has_failed = True
        return is_news

    def beaten(self) -> None:
        """Note that a heartbeat was heard."""
        self.last_error = ""
        self._is_due = False
        self._tries = 0

    def not_beaten(self, error: Refused | Unavailable) -> bool:
        """Note that a heartbeat failed; tell whether the node has been removed.

        Silence is news only once all tries of a heartbeat have failed.
        """
        self._is_due = False
        if isinstance(error, Refused) and error.problem.code is ProblemCode.NOT_FOUND:
            self.removed()
            return True
        self._tries = (self._tries + 1) % ATTEMPTS
        if not self._tries:
            self.last_error = str(error)
        return False

    def removed(self) -> None:
        """Note that the node is no member any more."""
        self.answer = None

    @property
    def incarnation(self) -> Incarnation:
        """Incarnation of the node; 0: it never was a member."""
        return self.own.incarnation

    @property
    def _beat_seconds(self) -> float:
        return self.answer.stale_seconds / BEATS if self.answer is not None else 0.0
