"""A cluster as a text describes it: namespaces, pods, outside addresses, policies, and what to ask
about.

The form in which people without a running cluster, tests and CI put a question to the engine.
Fields that aren't known are refused, since a misspelt one would change verdicts in silence.
"""

import json
from enum import StrEnum
from typing import Any, Literal

import msgspec
import yaml
from msgspec import Struct

from cilia.policy.engine.options import Mode
from cilia.policy.errors import PolicyError

Protocol = Literal["TCP", "UDP", "SCTP"]


class BadDescription(PolicyError):
    """A description can't be used; says where and why."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")


class Described(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Part of a description."""


class DescribedPort(Described, frozen=True, kw_only=True):
    """A port that a pod names."""

    name: str
    port: int
    protocol: Protocol = "TCP"


class DescribedPod(Described, frozen=True, kw_only=True):
    """A pod; those with the same labels in one namespace share an identity, as they do in a
    cluster.
    """

    name: str
    namespace: str = "default"
    labels: dict[str, str] = {}
    addresses: tuple[str, ...] = ()
    ports: tuple[DescribedPort, ...] = ()


class DescribedIdentity(Described, frozen=True, kw_only=True):
    """An identity with all of its security labels (``k8s:app=web``); goes by its number."""

    id: int
    labels: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    ports: tuple[DescribedPort, ...] = ()


class DescribedNode(Described, frozen=True, kw_only=True):
    """Node other than those of the pods, as ``fromNodes`` selects them."""

    name: str
    labels: dict[str, str] = {}
    addresses: tuple[str, ...] = ()


class Expected(StrEnum):
    """Expected verdict on a flow."""

    ALLOWED = "allowed"
    DENIED = "denied"


class Expectation(Described, frozen=True, kw_only=True):
    """Expected verdict on flows: every one of sources x destinations x ports.

    A source or destination is ``namespace/name`` of a pod, the number of an identity, an address,
    or an entity.
    """

    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    ports: tuple[str, ...]
    """``80/TCP``, ``http/TCP`` (as the destination names it), ``8/ICMP`` (a type)."""
    expect: Expected
    name: str = ""


class Description(Described, frozen=True, kw_only=True):
    """A cluster, its policies, and what is asked.

    Attributes:
        namespaces: Name -> labels. The label ``kubernetes.io/metadata.name`` is there by itself.
        addresses, entities: Outside addresses and reserved identities to judge beside the pods.
        policies: Objects as users write them.
        probes: Ports to judge, as in :class:`Expectation`.
        cluster: Its name, if identities carry it as a label.
        cases: What ``cilia policy test`` asserts.
    """

    namespaces: dict[str, dict[str, str]] = {}
    pods: tuple[DescribedPod, ...] = ()
    identities: tuple[DescribedIdentity, ...] = ()
    nodes: tuple[DescribedNode, ...] = ()
    addresses: tuple[str, ...] = ()
    entities: tuple[str, ...] = ()
    policies: tuple[dict[str, Any], ...] = ()
    probes: tuple[str, ...] = ()
    mode: Mode = Mode.DEFAULT
    dual_stack: bool = False
    cluster: str = ""
    allow_unenforced: bool = False
    cases: tuple[Expectation, ...] = ()

    @property
    def policies_text(self) -> str:
        """The policies as a text for the language's reader."""
        return "\n---\n".join(map(json.dumps, self.policies))


def read_description(text: str, source: str) -> Description:
    """Read YAML or JSON.

    Raises:
        BadDescription: It is neither, or a field is unknown, missing or of another type.
    """
    try:
        value = json.loads(text) if text.lstrip().startswith("{") else yaml.load(text, Loader=yaml.CSafeLoader)
        return msgspec.convert(value, Description)
    except (yaml.YAMLError, ValueError) as error:
        raise BadDescription(source, str(error)) from error
