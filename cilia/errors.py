"""Errors that a process may end with, or answer with, in one clear line; all others are bugs and
keep their traceback.

::

    Failure                what an operator can understand and act on
    +-- BadConfig          a setting is wrong (exit code 2)
    +-- Unavailable        something that we need doesn't answer
    +-- Refused            a service said no, with a Problem
    |   +-- TooLarge       a message has more bytes than the bus takes
    +-- LoopFailed         one of the supervised loops ended (cilia.lifecycle)
"""

from typing import ClassVar

from cilia.contracts.messages import Problem, ProblemCode


class Failure(Exception):
    """Failure that an operator can understand and act on.

    Subclasses build their own message and keep the data.
    """

    exit_code: ClassVar[int] = 1


class BadConfig(Failure):
    """A setting is wrong.

    ``source`` says where its value is from, such as ``environment CILIA_NATS_URLS``.
    """

    exit_code = 2

    def __init__(self, field: str, value: object, *, source: str, reason: str) -> None:
        super().__init__(f"setting {field!r} = {value!r} ({source}): {reason}")
        self.field = field
        self.value = value
        self.source = source
        self.reason = reason


class Unavailable(Failure):
    """``who`` (a service, the bus, the kvstore) does not answer; the same may succeed later."""

    exit_code = 3

    def __init__(self, who: str, reason: str) -> None:
        super().__init__(f"{who} is unavailable: {reason}")
        self.who = who
        self.reason = reason


class Refused(Failure):
    """A request was understood and refused."""

    def __init__(self, problem: Problem) -> None:
        at = f" (field {problem.field}: {problem.value!r})" if problem.field else ""
        super().__init__(f"{problem.code}: {problem.message}{at}")
        self.problem = problem


class TooLarge(Refused):
    """A message has more bytes than the bus takes; it was not sent."""

    def __init__(self, what: str, size_bytes: int, most_bytes: int) -> None:
        text = f"{what} has {size_bytes:,} bytes; the bus takes at most {most_bytes:,} (max_payload of nats-server)"
        super().__init__(Problem(ProblemCode.INVALID, text))
