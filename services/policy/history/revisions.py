"""Revisions of policies: the state at one of them, and the one that a rule comes from. Pure."""

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from cilia.contracts.history import HistoryRow
from cilia.contracts.ids import Revision

_STEP: Final = re.compile(r"([^.\[\]]+)|\[([^\]]*)\]")


def documents_at(rows: Sequence[HistoryRow], revision: Revision) -> dict[str, str]:
    """Return the documents at a revision of all policies that changed since; empty where there was
    none.

    Args:
        rows: The history, in any order; it reaches back to ``revision``.
    """
    documents: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: (-row.revision, -row.change.applied_ns)):
        if row.revision > revision:
            documents |= {step.key: step.before for step in row.change.steps}
    return documents


def find_origin(rows: Sequence[HistoryRow], key: str, path: str) -> HistoryRow | None:
    """Return the newest revision that changed what stands at a path of a policy, such as
    ``spec.ingress[0]``.

    Args:
        path: Of a field; empty for the whole document.
    """
    for row in sorted(rows, key=lambda row: (-row.revision, -row.change.applied_ns)):
        for step in row.change.steps:
            if step.key == key and _look_up(step.before, path) != _look_up(step.after, path):
                return row
    return None


def _look_up(document: str, path: str) -> Any:
    """Return what stands at a path of a JSON document; None where nothing does."""
    value = json.loads(document) if document else None
    for name, index in _STEP.findall(path):
        if isinstance(value, dict):
            value = value.get(name or index)
        elif isinstance(value, list) and index.isdigit() and int(index) < len(value):
            value = value[int(index)]
        else:
            return None
    return value
