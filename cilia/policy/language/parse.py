"""Texts of policies, as users write them, to typed policies."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from cilia.contracts.tables import PolicyObject, policy_object_key
from cilia.policy.engine.rules import Policy, PrefixGroup, Spec
from cilia.policy.language import cilium, kubernetes
from cilia.policy.language.addresses import read_prefix_group
from cilia.policy.language.documents import Field, Mapping, Value, read_documents
from cilia.policy.language.enforcement import ENFORCEMENT, Enforcement, is_audited, read_enforcement

CNP: Final = "CiliumNetworkPolicy"
CCNP: Final = "CiliumClusterwideNetworkPolicy"
CIDR_GROUP: Final = "CiliumCIDRGroup"
NP: Final = "NetworkPolicy"
KINDS: Final = {
    CNP: ("cilium.io/v2",),
    CCNP: ("cilium.io/v2",),
    CIDR_GROUP: ("cilium.io/v2", "cilium.io/v2alpha1"),
    NP: ("networking.k8s.io/v1",),
    ENFORCEMENT: ("cilia.io/v1",),
}
CLUSTERWIDE: Final = (CCNP, CIDR_GROUP, ENFORCEMENT)
SHADOW: Final = "cilia.io/shadow"
"""Annotation of a policy that shall not be in force, only tell what it would do: ``"true"``."""
_NAME: Final = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_METADATA: Final = (
    "name",
    "namespace",
    "labels",
    "annotations",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
)


@dataclass(frozen=True, slots=True)
class ParsedPolicy:
    """A policy and the object that it was read from.

    Attributes:
        document: The object as canonical JSON: the same object gives the same text.
        unenforced: Paths of its fields that have no effect yet; empty unless that was allowed.
        enforcement: What the object of the enforcement mode says; its policy is empty.
    """

    kind: str
    namespace: str
    name: str
    document: str
    policy: Policy
    unenforced: tuple[str, ...] = ()
    enforcement: Enforcement | None = None

    @property
    def key(self) -> str:
        """Its key in the table of policies."""
        return self.policy.key


def parse_policies(
    text: str,
    *,
    source: str = "",
    namespace: str = "default",
    cluster: str = "",
    allow_unenforced: bool = False,
) -> list[ParsedPolicy]:
    """Read YAML or JSON: one or many documents, each an object or a List of them.

    Args:
        source: Where the text is from, for messages.
        namespace: Of namespaced objects that name none.
        cluster: Our cluster's name if identities carry it as a label; peers are limited to it then.
        allow_unenforced: Accept fields that have no effect yet. What they would allow stays closed.

    Raises:
        BadPolicy: Something is wrong, or an object comes twice; nothing of the text should be
            applied.
    """
    parsed: dict[str, ParsedPolicy] = {}
    for document in read_documents(text, source):
        document.document.allow_unenforced = allow_unenforced
        for at in _objects(document):
            policy = _parse(at, namespace, cluster)
            if policy.key in parsed:
                at.mapping().require("metadata").mapping().require("name").refuse(
                    f"{policy.key} comes twice in the text"
                )
            parsed[policy.key] = policy
    return list(parsed.values())


def decode_object(row: PolicyObject, *, cluster: str = "") -> ParsedPolicy:
    """Read a stored object, which was accepted before.

    Raises:
        BadPolicy: The stored text is not what this version accepts.
    """
    key = policy_object_key(row.kind, row.namespace, row.name)
    namespace = row.namespace or "default"
    (parsed,) = parse_policies(row.document, source=key, namespace=namespace, cluster=cluster, allow_unenforced=True)
    return parsed


def put_in_shadow(parsed: ParsedPolicy, shadow: bool) -> ParsedPolicy:
    """Return a policy with the annotation that puts it in shadow, or without it."""
    body = json.loads(parsed.document)
    annotations = body["metadata"].pop("annotations", {})
    annotations.pop(SHADOW, None)
    if shadow:
        annotations[SHADOW] = "true"
    if annotations:
        body["metadata"]["annotations"] = annotations
    return replace(parsed, document=_write(body), policy=replace(parsed.policy, shadow=shadow))


def _objects(document: Field) -> Iterator[Field]:
    body = document.mapping()
    kind = body.require("kind")
    if kind.text() != "List" and not (kind.text().removesuffix("List") in KINDS and kind.text().endswith("List")):
        yield document
        return
    body.only("apiVersion", "kind", "items", "metadata")
    yield from body.require("items").items()


def _parse(at: Field, default_namespace: str, cluster: str) -> ParsedPolicy:
    body = at.mapping()
    kind = body.require("kind").one_of(tuple(KINDS))
    body.require("apiVersion").one_of(KINDS[kind])
    body.only("apiVersion", "kind", "metadata", "spec", "status", *(("specs",) if kind in (CNP, CCNP) else ()))
    name, namespace, shadow = _metadata(body, kind, default_namespace)
    at.document.name = f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
    marked = len(at.document.unenforced)
    specs = _specs(body, kind, namespace, cluster)
    if is_audited(body):
        specs = tuple(replace(spec, audit=True) for spec in specs)
    key = policy_object_key(kind, namespace, name)
    return ParsedPolicy(
        kind,
        namespace,
        name,
        _canonical(at, namespace),
        Policy(key, specs, shadow, _prefix_group(body, name) if kind == CIDR_GROUP else None),
        tuple(at.document.unenforced[marked:]),
        read_enforcement(body) if kind == ENFORCEMENT else None,
    )


def _metadata(body: Mapping, kind: str, default_namespace: str) -> tuple[str, str, bool]:
    """Return name and namespace, and whether the object is in shadow."""
    fields = body.require("metadata").mapping().only(*_METADATA)
    name = fields.require("name")
    if not _NAME.fullmatch(name.text()):
        name.refuse("is no name: small letters, digits, '-' and '.', at most 253 characters")
    for texts in (fields.get("labels"), fields.get("annotations")):
        for _, item in texts.mapping() if texts is not None else ():
            item.text()
    shadow = _is_shadow(fields.get("annotations"))
    namespace = fields.get("namespace")
    if kind in CLUSTERWIDE:
        if namespace is not None and namespace.text():
            namespace.refuse(f"a {kind} has no namespace")
        return name.text(), "", shadow
    if namespace is not None and namespace.text() and not _NAMESPACE.fullmatch(namespace.text()):
        namespace.refuse("is no namespace: small letters, digits and '-', at most 63 characters")
    return name.text(), (namespace.text() if namespace is not None else "") or default_namespace, shadow


def _is_shadow(annotations: Field | None) -> bool:
    value = annotations.mapping().get(SHADOW) if annotations is not None else None
    return value is not None and value.one_of(("true", "false")) == "true"


def _specs(body: Mapping, kind: str, namespace: str, cluster: str) -> tuple[Spec, ...]:
    match kind:
        case "NetworkPolicy":
            spec = body.get("spec")
            return (kubernetes.read_spec(spec or body.require("spec"), namespace),)
        case "CiliumCIDRGroup":
            return ()
        case "CiliaEnforcement":
            return ()
        case _:
            return cilium.read_specs(body, namespace, cluster)


def _prefix_group(body: Mapping, name: str) -> PrefixGroup:
    return read_prefix_group(body.require("spec"), name, body.require("metadata").mapping().get("labels"))


def _canonical(at: Field, namespace: str) -> str:
    body = dict(at.value) if isinstance(at.value, dict) else {}
    body.pop("status", None)
    metadata = body.get("metadata")
    kept: dict[str, Value] = {}
    if isinstance(metadata, dict):
        kept = {key: metadata[key] for key in ("name", "labels", "annotations") if metadata.get(key) is not None}
    if namespace:
        kept["namespace"] = namespace
    body["metadata"] = kept
    return _write(body)


def _write(body: object) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
