"""Trials of changes: how many entries subjects would have, told before a change is stored."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from cilia.contracts.ids import Identity
from cilia.contracts.tables import PolicyObject

DesiredPolicies = Mapping[str, PolicyObject | None]
"""Policies by key as they shall be; None for one that is to go."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Entries of the subjects that a change concerns, before and after."""

    before: Mapping[Identity, int]
    after: Mapping[Identity, int]


class Trials(Protocol):
    """The engine, as far as changes are tried on it."""

    def size(self, subject: Identity) -> int:
        """Return how many entries a subject has once all that is on trial is made."""
        ...

    def try_sizes(self, desired: DesiredPolicies) -> Sizes:
        """Try a change on top of those on trial; return what it would do to the number of
        entries.
        """
        ...

    def try_cookies(self, desired: DesiredPolicies, subject: Identity) -> Counter[int]:
        """Return how many entries of a subject each policy would have, by cookie."""
        ...

    def drop_trial(self, desired: DesiredPolicies) -> None:
        """Take a trial back: the change will not be made."""
        ...
