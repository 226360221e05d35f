"""Refusals of the identity service.

::

    Refused                     (cilia.errors)
    +-- IdentitiesExhausted     every number of the cluster is in use
    +-- NotMember               the node was removed meanwhile: register again
    +-- BadField                a field of the request makes no sense
    +-- TooContended            others were faster, time and again
"""

from cilia.contracts.ids import Incarnation, NodeName
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


class NotMember(Refused):
    """A node that is no member any more, or anew, owns none of the addresses that it had."""

    def __init__(self, node: NodeName, incarnation: Incarnation) -> None:
        text = f"node {node!r} is not registered, or anew, since it was incarnation {incarnation}; register again"
        super().__init__(Problem(ProblemCode.NOT_FOUND, text, field="incarnation", value=str(incarnation)))


class BadField(Refused):
    """A field of a request makes no sense."""

    def __init__(self, field: str, value: str, reason: str) -> None:
        super().__init__(Problem(ProblemCode.INVALID, reason, field=field, value=value))


class TooContended(Refused):
    """Other writers won every attempt."""

    def __init__(self, what: str, attempts: int) -> None:
        super().__init__(Problem(ProblemCode.BUSY, f"{what}: lost against other writers {attempts} times; try again"))
