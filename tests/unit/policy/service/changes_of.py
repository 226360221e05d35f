"""Events of a small cluster: policies that let pods of one label into pods of another."""

import json
from collections.abc import Mapping

from msgspec.structs import replace

from cilia.contracts.identities import PREFIX_SCOPE
from cilia.contracts.ids import EndpointId, Identity, NodeName
from cilia.contracts.labels import parse_labels
from cilia.contracts.tables import Endpoint, EndpointKey, PolicyObject
from cilia.policy.engine.options import Options
from cilia.policy.engine.reserved import labels_of_prefix
from cilia.policy.engine.rules import parse_prefix
from services.policy.resolution.events import EndpointEvent, IdentityEvent
from services.policy.resolution.parse_cache import ParseCache
from services.policy.resolution.resolver import EngineResolver

NAMESPACE = "k8s:io.kubernetes.pod.namespace=x"


def new_resolver() -> EngineResolver:
    return EngineResolver(ParseCache(), Options())


def key(name: str) -> str:
    return f"CiliumNetworkPolicy/x/{name}"


def policy(name: str, app: str, *ports: int, peer: str = "peer") -> PolicyObject:
    """Return a policy that lets pods with the role ``peer`` into pods of an app, at some ports."""
    numbers = [{"port": str(port), "protocol": "TCP"} for port in ports]
    rule = {
        "fromEndpoints": [{"matchLabels": {"role": peer}}],
        "toPorts": [{"ports": numbers[at : at + 40]} for at in range(0, len(numbers), 40)],
    }
    return _allow(name, app, rule)


def outsiders(name: str, app: str, *prefixes: str) -> PolicyObject:
    """Return a policy that lets addresses outside of the cluster into pods of an app."""
    return replace(_allow(name, app, {"fromCIDR": list(prefixes)}), prefixes=prefixes)


def _allow(name: str, app: str, rule: Mapping[str, object]) -> PolicyObject:
    spec = {"endpointSelector": {"matchLabels": {"app": app}}, "ingress": [rule]}
    metadata = {"name": name, "namespace": "x"}
    document = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": metadata, "spec": spec}
    return PolicyObject("CiliumNetworkPolicy", "x", name, json.dumps(document))


def identity(number: int, *labels: str) -> IdentityEvent:
    return IdentityEvent(Identity(number), parse_labels([*labels, NAMESPACE]))


def outside(number: int, prefix: str) -> IdentityEvent:
    """Return the event that a prefix has an identity."""
    return IdentityEvent(Identity(PREFIX_SCOPE + number), labels_of_prefix(parse_prefix(prefix)))


def endpoint(node: str, number: int, of: int) -> EndpointEvent:
    name = EndpointKey(NodeName(node), EndpointId(number))
    return EndpointEvent(name, Endpoint(name.node, name.id, Identity(of), f"10.0.0.{number}"))
