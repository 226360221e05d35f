"""Refusals of ipam.

::

    Refused                 (cilia.errors)
    +-- PoolExhausted       no free block
    +-- NoSuchPool
    +-- WrongFamily         a pool of IPv4 where one of IPv6 is meant, or the other way round
    +-- NodeConflict        the name belongs to another machine
    +-- NotRegistered       the node was removed meanwhile: register again
    +-- NodeLives           the node is not stale, so it isn't removed by mistake
    +-- BlockNotHeld        the node gives back what it doesn't have
    +-- BadField            a field of the request makes no sense
    +-- TooContended        others were faster, time and again
"""

from cilia.contracts.ids import Incarnation, NodeName
from cilia.contracts.messages import Problem, ProblemCode
from cilia.errors import Refused


class PoolExhausted(Refused):
    """Every block of a pool is granted."""

    def __init__(self, *, pool: str, cidr: str, block_prefix: int, blocks: int) -> None:
        text = f"pool {pool!r} is exhausted: all {blocks} blocks of /{block_prefix} in {cidr} are granted"
        super().__init__(Problem(ProblemCode.EXHAUSTED, text, field="pool", value=pool))


class NoSuchPool(Refused):
    """A pool is not configured."""

    def __init__(self, pool: str, known: tuple[str, ...], field: str = "pool") -> None:
        text = f"there is no pool {pool!r}; configured are {', '.join(known) or 'none'}"
        super().__init__(Problem(ProblemCode.NOT_FOUND, text, field=field, value=pool))


class WrongFamily(Refused):
    """A node asks a pool for addresses of the other family."""

    def __init__(self, field: str, pool: str, version: int) -> None:
        super().__init__(Problem(ProblemCode.INVALID, f"pool {pool!r} is not of IPv{version}", field=field, value=pool))


class NodeConflict(Refused):
    """Two machines claim one name."""

    def __init__(self, name: NodeName, *, held_by: str, claimed_by: str) -> None:
        text = (
            f"node {name!r} is registered with underlay address {held_by}, and {claimed_by} claims the name too; "
            f"rename one of them, or remove the old one: cilia node delete {name}"
        )
        super().__init__(Problem(ProblemCode.CONFLICT, text, field="ipv4", value=claimed_by))


class NotRegistered(Refused):
    """The node has been removed since it registered."""

    def __init__(self, node: NodeName, incarnation: Incarnation) -> None:
        text = f"node {node!r} is not registered, or anew, since it was incarnation {incarnation}; register again"
        super().__init__(Problem(ProblemCode.NOT_FOUND, text, field="incarnation", value=str(incarnation)))


class NodeLives(Refused):
    """A node that is to be removed is not stale."""

    def __init__(self, node: NodeName) -> None:
        text = f"node {node!r} is not stale: its agent is heard, and would register again"
        super().__init__(Problem(ProblemCode.CONFLICT, text, field="node", value=node))


class BlockNotHeld(Refused):
    """A node gives a block back that it doesn't hold."""

    def __init__(self, node: NodeName, cidr: str) -> None:
        super().__init__(
            Problem(ProblemCode.NOT_FOUND, f"node {node!r} holds no block {cidr}", field="cidr", value=cidr)
        )


class BadField(Refused):
    """A field of a request makes no sense."""

    def __init__(self, field: str, value: str, reason: str) -> None:
        super().__init__(Problem(ProblemCode.INVALID, f"{field} {value!r}: {reason}", field=field, value=value))


class TooContended(Refused):
    """Other writers won every attempt."""

    def __init__(self, what: str, attempts: int) -> None:
        super().__init__(Problem(ProblemCode.BUSY, f"{what}: lost against other writers {attempts} times; try again"))
