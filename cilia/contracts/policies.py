"""Calls of the policy service that change policies."""

from enum import StrEnum

from cilia.contracts.ids import NodeName, Revision
from cilia.contracts.messages import Message


class ApplyPolicies(Message, frozen=True):
    """``policy.apply``: store the policies of ``text``, all or none of them."""

    text: str
    """YAML or JSON, one or many documents."""
    source: str = ""
    """Origin of the text, for messages: a file's name, ``-`` for standard input."""
    namespace: str = "default"
    """Namespace of the objects that name none."""
    author: str = ""
    dry_run: bool = False
    allow_unenforced: bool = False
    shadow: bool = False
    """Put all of them in shadow: they change nothing, and tell what they would do."""


class PolicyFile(Message, frozen=True):
    """A source of policies by name, such as a file of a directory."""

    name: str
    text: str


class SyncPolicies(Message, frozen=True):
    """``policy.sync``: make the policies of one owner what its files say, in one revision.

    A policy of the owner that is in none of ``files`` is deleted, unless it came from a file in
    ``keep``. Policies of others are never touched: one of ``files`` that somebody else applied is
    refused as a conflict.
    """

    owner: str
    files: tuple[PolicyFile, ...]
    keep: tuple[str, ...] = ()
    """Names of files that can't be read now."""
    adopt: bool = False
    """Take over policies of the same name that nobody owns."""
    namespace: str = "default"
    author: str = ""
    dry_run: bool = False
    allow_unenforced: bool = False


class DeletePolicies(Message, frozen=True):
    """``policy.delete``: remove policies by key, all or none."""

    keys: tuple[str, ...]
    author: str = ""


class ChangeAction(StrEnum):
    """Effect of a change on one policy."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    DELETED = "deleted"


class PolicyChange(Message, frozen=True):
    """Effect of a change on one policy, with its documents where a plan is shown."""

    key: str
    action: ChangeAction
    before: str = ""
    """Document (JSON) before the change, only in answers to a dry run; empty where there is none.
    """
    after: str = ""
    """Document (JSON) after the change, on the same terms."""
    unenforced: tuple[str, ...] = ()
    """Paths of its fields that were accepted and have no effect yet."""


class NodeForecast(Message, frozen=True):
    """Forecast of the entries in the policy map of a node that a change concerns."""

    node: NodeName
    entries: int
    """Entries after the change."""
    peak: int
    """Entries during the change: the node's, and those of the changed subjects, side by side."""
    capacity: int


class PoliciesChanged(Message, frozen=True):
    """Answer to ``policy.apply``, ``sync``, ``delete`` and ``rollback``."""

    revision: Revision
    changes: tuple[PolicyChange, ...]
    forecast: tuple[NodeForecast, ...] = ()
    """Forecast of a dry run for the nodes that it concerns, the fullest first."""
