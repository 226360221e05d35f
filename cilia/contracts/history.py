"""History of policies: its revisions, and the calls of the policy service about them."""

from cilia.contracts.explanations import Explained
from cilia.contracts.ids import Revision
from cilia.contracts.messages import Message


class PolicyStep(Message, frozen=True):
    """Change of one policy by a revision."""

    key: str
    before: str
    """Document (JSON) before the change; empty where there was none."""
    after: str
    """Document (JSON) after the change; empty where there is none."""


class PolicyRevision(Message, frozen=True):
    """One change of policies, kept in etcd; its revision is the one that wrote it."""

    author: str
    applied_ns: int
    """Unix time in ns."""
    cause: str
    """Cause for people: ``apply``, ``sync``, ``delete``, or ``rollback to <revision>``."""
    steps: tuple[PolicyStep, ...]


class HistoryRow(Message, frozen=True):
    """A revision with its number."""

    revision: Revision
    change: PolicyRevision


class HistoryQuery(Message, frozen=True):
    """``policy.history``: list revisions, the newest first."""

    key: str = ""
    """Key of the policy that they changed; empty: any."""
    revision: Revision = Revision(0)
    """Number of the only one to list; 0: any."""
    limit: int = 20
    brief: bool = False
    """Leave the documents out: many revisions of a large directory are more than the bus takes."""


class PolicyHistory(Message, frozen=True):
    """Answer to ``policy.history``."""

    rows: tuple[HistoryRow, ...]
    oldest: Revision
    """First revision that is kept; 0: none is."""


class RollbackPolicies(Message, frozen=True):
    """``policy.rollback``: make all policies what they were at a revision, in one transaction."""

    revision: Revision
    author: str = ""
    dry_run: bool = False


class Origin(Message, frozen=True):
    """Revision that gave a rule, or a policy as a whole, its present text."""

    policy: str
    rule: str
    """Path of the rule; empty: the policy as a whole."""
    row: HistoryRow | None
    """The revision; None: older than the history that is kept."""


class Blamed(Message, frozen=True):
    """Answer to ``policy.blame``: a flow's explanation, and the origins of its rules."""

    explained: Explained
    origins: tuple[Origin, ...]
