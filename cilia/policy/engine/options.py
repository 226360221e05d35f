"""Options of the engine: when subjects are denied by default, and whom the reserved labels mean."""

from dataclasses import dataclass
from enum import Enum

from cilia.contracts.identities import Reserved
from cilia.contracts.ids import Identity


class Mode(Enum):
    """Enforcement mode: when a subject is denied by default."""

    DEFAULT = "default"
    """Denied in a direction for which a policy isolates it."""
    ALWAYS = "always"
    NEVER = "never"
    """Never denied, and deny rules have no effect either."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the engine; the defaults are the peer's.

    Attributes:
        mode: Enforcement mode at the start.
        dual_stack: Outside addresses are world-ipv4 and world-ipv6, as agents have them; otherwise
            all are IPv4, and world, as in the peer's clusters of one family.
        admit_host: A node reaches its own pods unless a rule denies it.
        reserved_subjects: Reserved identities that can have endpoints.
    """

    mode: Mode = Mode.DEFAULT
    dual_stack: bool = True
    admit_host: bool = True
    reserved_subjects: frozenset[Identity] = frozenset({Identity(Reserved.INIT)})
