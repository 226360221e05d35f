"""Enforcement: the object that sets its mode, and the annotation that audits one policy.

::

    apiVersion: cilia.io/v1
    kind: CiliaEnforcement
    metadata: {name: cluster}
    spec: {mode: default, audit: false}

It is stored beside the policies, so it changes in their transactions, has their history, and is
acknowledged as they are.
"""

import json
from dataclasses import dataclass
from typing import Final

from cilia.contracts.tables import policy_object_key
from cilia.policy.engine.options import Mode
from cilia.policy.language.documents import Mapping

ENFORCEMENT: Final = "CiliaEnforcement"
NAME: Final = "cluster"
KEY: Final = policy_object_key(ENFORCEMENT, "", NAME)
AUDIT: Final = "cilia.io/audit"
"""Annotation of a policy: ``"true"``, and what it alone would deny is let through and reported."""
_MODES: Final = tuple(mode.value for mode in Mode)


@dataclass(frozen=True, slots=True)
class Enforcement:
    """Enforcement mode and audit of the cluster."""

    mode: Mode = Mode.DEFAULT
    audit: bool = False

    @property
    def document(self) -> str:
        """The object, as a user would write it."""
        spec = {"mode": self.mode.value, "audit": self.audit}
        metadata = {"name": NAME}
        return json.dumps({"apiVersion": "cilia.io/v1", "kind": ENFORCEMENT, "metadata": metadata, "spec": spec})


def read_enforcement(body: Mapping) -> Enforcement:
    """Read the object; there is one, and what it leaves out has its default.

    Raises:
        BadPolicy: It has another name, an unknown field or value.
    """
    name = body.require("metadata").mapping().require("name")
    if name.text() != NAME:
        name.refuse(f"must be {NAME}: there is one {ENFORCEMENT} in a cluster")
    spec = body.require("spec").mapping().only("mode", "audit")
    mode, audit = spec.get("mode"), spec.get("audit")
    return Enforcement(
        Mode(mode.one_of(_MODES)) if mode is not None else Mode.DEFAULT,
        audit is not None and audit.boolean(),
    )


def is_audited(body: Mapping) -> bool:
    """Tell whether a policy's annotation has it audited.

    Raises:
        BadPolicy: The annotation says something else.
    """
    annotations = body.require("metadata").mapping().get("annotations")
    wanted = annotations.mapping().get(AUDIT) if annotations is not None else None
    return wanted is not None and wanted.one_of(("true", "false")) == "true"
