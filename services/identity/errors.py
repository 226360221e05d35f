"""Refusals of the identity service.

::

    Refused                     (cilia.errors)
    +-- IdentitiesExhausted     every number of the cluster is in use
    +-- LeaseEnded              the holder's lease has ended: register again
    +-- BadField                a field of the request makes no sense
    +-- TooContended            others were faster, time and again
"""

from cilia.contracts.ids import LeaseId
from cilia.contracts.messages import Problem, ProblemCode
from cilia.errors import Refused


class IdentitiesExhausted(Refused):
    """Every number of this cluster's range is in use."""

    def __init__(self, numbers: range) -> None:
        text = (
            f"all {len(numbers)} identities ({numbers[0]} to {numbers[-1]}) are in use; "
            "fewer distinct label sets are needed, or labels left out of identities"
        )
        super().__init__(Problem(ProblemCode.EXHAUSTED, text, field="labels"))


class LeaseEnded(Refused):
    """The lease under which something was to be held has ended, or never was."""

    def __init__(self, lease: LeaseId) -> None:
        text = f"lease {lease:x} has ended or never was; register the node again"
        super().__init__(Problem(ProblemCode.NOT_FOUND, text, field="lease", value=str(lease)))


class BadField(Refused):
    """A field of a request makes no sense."""

    def __init__(self, field: str, value: str, reason: str) -> None:
        super().__init__(Problem(ProblemCode.INVALID, reason, field=field, value=value))


class TooContended(Refused):
    """Other writers won every attempt."""

    def __init__(self, what: str, attempts: int) -> None:
        super().__init__(Problem(ProblemCode.BUSY, f"{what}: lost against other writers {attempts} times; try again"))
