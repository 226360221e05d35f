"""Cache of policies as they were read, by the row that is stored.

What a user's text gave isn't read again when etcd tells of it.
"""

from typing import Final

from cilia.contracts.tables import PolicyObject
from cilia.policy.language.parse import ParsedPolicy, decode_object

LIMIT: Final = 4 << 20
"""Characters of all documents: what is tried out is, as a rule, what comes next, and that may be a
whole directory.
"""


class ParseCache:
    """Cache of the newest policies."""

    def __init__(self) -> None:
        self._known: dict[PolicyObject, ParsedPolicy] = {}
        self._characters = 0

    def put(self, row: PolicyObject, parsed: ParsedPolicy) -> None:
        """Keep the policy that a row was made from."""
        if self._known.pop(row, None) is None:
            self._characters += len(row.document)
        self._known[row] = parsed
        while self._characters > LIMIT and len(self._known) > 1:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._characters -= len(oldest.document)

    def read(self, row: PolicyObject) -> ParsedPolicy:
        """Return the policy that a row holds.

        Raises:
            BadPolicy: The stored text is not what this version accepts.
        """
        parsed = self._known.get(row)
        if parsed is None:
            parsed = decode_object(row)
            self.put(row, parsed)
        return parsed
