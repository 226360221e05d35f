"""Events of a small cluster: policies that let pods of one label into pods of another."""

import json

from cilia.contracts.ids import EndpointId, Identity, NodeName
from cilia.contracts.labels import parse_labels
from cilia.contracts.tables import Endpoint, EndpointKey, PolicyObject
from cilia.policy.engine.options import Options
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
    spec = {"endpointSelector": {"matchLabels": {"app": app}}, "ingress": [rule]}
    metadata = {"name": name, "namespace": "x"}
    document = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": metadata, "spec": spec}
    return PolicyObject("CiliumNetworkPolicy", "x", name, json.dumps(document))


def identity(number: int, *labels: str) -> IdentityEvent:
    return IdentityEvent(Identity(number), parse_labels([*labels, NAMESPACE]))


def endpoint(node: str, number: int, of: int) -> EndpointEvent:
    name = EndpointKey(NodeName(node), EndpointId(number))
    return EndpointEvent(name, Endpoint(name.node, name.id, Identity(of), f"10.0.0.{number}"))
