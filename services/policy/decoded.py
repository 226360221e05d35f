"""Policies as they were read, by the row that is stored: what a user's text gave isn't read again when etcd tells of it."""

from typing import Final

from cilia.contracts.tables import PolicyObject
from cilia.policy.language.parse import ParsedPolicy, decode_object

LIMIT: Final = 256
"""What is tried out is, as a rule, what comes next; older ones are read again."""


class Decoded:
    """Remembers the newest."""

    def __init__(self) -> None:
        self._known: dict[PolicyObject, ParsedPolicy] = {}

    def put(self, row: PolicyObject, parsed: ParsedPolicy) -> None:
        """Remember what a row was made from."""
        self._known.pop(row, None)
        self._known[row] = parsed
        if len(self._known) > LIMIT:
            del self._known[next(iter(self._known))]

    def of(self, row: PolicyObject) -> ParsedPolicy:
        """Return what a row says.

        Raises:
            BadPolicy: The stored text is not what this version accepts.
        """
        parsed = self._known.get(row)
        if parsed is None:
            parsed = decode_object(row)
            self.put(row, parsed)
        return parsed
