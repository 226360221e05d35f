"""The base of requests, replies and events on the bus, and what all services answer with.

Messages are JSON: unknown fields are ignored, missing ones take their default.
"""

from enum import StrEnum
from typing import Generic, TypeVar

from msgspec import Struct

from cilia.contracts.ids import Revision

T = TypeVar("T")


class Message(Struct, frozen=True):
    """A message in JSON; fields may be added with a default, never renamed."""


class ProblemCode(StrEnum):
    """Reason for which a request was refused."""

    INVALID = "invalid"
    """The request makes no sense; the same will be refused again."""
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    """Somebody else has it, or holds another state of it."""
    EXHAUSTED = "exhausted"
    """A limit is reached; room must be made first."""
    BUSY = "busy"
    """Too much is under way; the same may succeed later."""
    UNAVAILABLE = "unavailable"
    """Something that the service needs doesn't answer."""
    INTERNAL = "internal"
    """A bug; the service's log has the traceback."""


class Problem(Message, frozen=True):
    """Refusal of a request: its reason, and the field and value that are to blame, if one is."""

    code: ProblemCode
    message: str
    field: str = ""
    value: str = ""


class Reply(Message, Generic[T], frozen=True, omit_defaults=True):
    """Answer to a request: ``ok`` or ``problem``, never both."""

    ok: T | None = None
    problem: Problem | None = None


class Empty(Message, frozen=True):
    """A request or an answer without content."""


class Revised(Message, frozen=True):
    """Answer to a change: it holds from this revision on."""

    revision: Revision
