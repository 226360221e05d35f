"""Refusals of changes of policies; nothing was changed where one is raised.

``Refused``
    ``TooManyPolicies``, ``ChangeTooLarge``   it doesn't fit one transaction of etcd
    ``TooManyEntries``                        it doesn't fit the policy map of a node
    ``NoSuchPolicies``                        it deletes what isn't there
    ``OwnedByOthers``                         it changes what somebody else keeps
    ``PoliciesContended``                     others changed the same at the same time
"""

from collections.abc import Sequence
from typing import Final

from cilia.contracts.ids import Identity
from cilia.contracts.messages import Problem, ProblemCode
from cilia.contracts.policies import NodeForecast
from cilia.contracts.tables import PolicyObject
from cilia.errors import Refused
from cilia.kvstore import TransactionTooLarge

ATTEMPTS: Final = 8
"""Transactions that are tried before a change is refused as contended."""


class TooManyPolicies(Refused):
    """A request names more policies than one transaction takes."""

    def __init__(self, count: int, most: int) -> None:
        text = f"{count:,} policies in one request; one transaction of etcd takes at most {most:,} (max-txn-ops)"
        super().__init__(Problem(ProblemCode.INVALID, text, field="text", value=str(count)))


class ChangeTooLarge(Refused):
    """A change, with the documents before and after that its revision keeps, has too many bytes for
    one transaction.
    """

    def __init__(self, count: int, error: TransactionTooLarge) -> None:
        text = f"a change of {count:,} policies is {error}; nothing was changed"
        super().__init__(Problem(ProblemCode.INVALID, text, field="text", value=str(count)))


class NoSuchPolicies(Refused):
    """A request deletes what isn't there."""

    def __init__(self, keys: Sequence[str]) -> None:
        text = f"there is no policy {', '.join(keys)}; nothing was deleted"
        super().__init__(Problem(ProblemCode.NOT_FOUND, text, field="keys", value=keys[0]))


class OwnedByOthers(Refused):
    """An owner's source names a policy that somebody else keeps or applied."""

    def __init__(self, key: str, row: PolicyObject) -> None:
        whose = f"{row.owner} keeps" if row.owner else f"{row.author or 'somebody'} applied"
        text = f"{key} is a policy that {whose}; delete it first, or adopt what nobody owns"
        super().__init__(Problem(ProblemCode.CONFLICT, text, field="metadata.name", value=row.name))


class PoliciesContended(Refused):
    """Others changed the same policies at the same time, time and again."""

    def __init__(self) -> None:
        super().__init__(Problem(ProblemCode.BUSY, f"the same policies changed {ATTEMPTS} times meanwhile; try again"))


class TooManyEntries(Refused):
    """A change doesn't fit the policy map of a node."""

    def __init__(self, policy: str, subject: Identity, entries: int, node: NodeForecast) -> None:
        text = (
            f"{policy}: its subject with identity {subject} wants {entries:,} entries; {node.node} would need "
            f"{node.peak:,} while it changes, {node.entries:,} afterwards, and holds {node.capacity:,}"
        )
        super().__init__(Problem(ProblemCode.EXHAUSTED, text, field=policy, value=str(entries)))
