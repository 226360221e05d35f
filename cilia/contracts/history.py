"""Revisions of policy: who changed what, when; requests and answers of the policy service about
them.
"""

from cilia.contracts.explanations import Explained
from cilia.contracts.ids import Revision
from cilia.contracts.messages import Message


class PolicyStep(Message, frozen=True):
    """What a revision did to one policy: its document (JSON) before and after; empty where there
    was none.
    """

    key: str
    before: str
    after: str


class PolicyRevision(Message, frozen=True):
    """One change of policies, as it is kept beside them.

    Its revision is the one of etcd that wrote it.
    """

    author: str
    applied_ns: int
    """Unix time in ns."""
    cause: str
    """``apply``, ``delete``, or ``rollback to <revision>``."""
    steps: tuple[PolicyStep, ...]


class HistoryRow(Message, frozen=True):
    """A revision as it is listed."""

    revision: Revision
    change: PolicyRevision


class HistoryQuery(Message, frozen=True):
    """``policy.history``: the newest revisions first; those of one policy if ``key`` is given."""

    key: str = ""
    revision: Revision = Revision(0)
    """Only this one; 0: any."""
    limit: int = 20
    brief: bool = False
    """Leave the documents out: those of a large directory, many times over, are more than the bus
    takes.
    """


class PolicyHistory(Message, frozen=True):
    """Answer to ``policy.history``."""

    rows: tuple[HistoryRow, ...]
    oldest: Revision
    """History is kept from here on; 0 if nothing is kept."""


class RollbackPolicies(Message, frozen=True):
    """``policy.rollback``: make all policies what they were at a revision, in one transaction."""

    revision: Revision
    author: str = ""
    dry_run: bool = False


class Origin(Message, frozen=True):
    """Where a rule, or a policy as a whole (``rule`` empty), got its present text from."""

    policy: str
    rule: str
    row: HistoryRow | None
    """None: before the history that is kept."""


class Blamed(Message, frozen=True):
    """Answer to ``policy.blame``: why a flow is treated as it is, and who is behind each rule that
    decides.
    """

    explained: Explained
    origins: tuple[Origin, ...]
