"""Objects of a small cluster that commands show: two nodes, three endpoints, two policies."""

from typing import Any

import msgspec

from cilia.contracts.agent import (
    AgentState,
    AgentStatus,
    EndpointState,
    LocalEndpoint,
    LoopName,
    LoopStatus,
    TableStatus,
)
from cilia.contracts.direction import Direction
from cilia.contracts.flow_events import Flow, FlowKind, FlowVerdict
from cilia.contracts.ids import EndpointId, Identity, NodeName, Revision
from cilia.contracts.policies import ChangeAction, PoliciesChanged, PolicyChange
from cilia.contracts.tables import Endpoint, EndpointKey, IdentityRow, Node, PolicyObject

NODE1, NODE2 = NodeName("node1"), NodeName("node2")
NODES = {
    NODE1: Node(NODE1, "172.31.0.11", "fd00:31::11", ("zone=a",), ("10.244.0.0/26", "fd00:10::/64")),
    NODE2: Node(NODE2, "172.31.0.12", pod_cidrs=("10.244.0.64/26",)),
}
ENDPOINTS = {
    EndpointKey(node, EndpointId(number)): Endpoint(
        node, EndpointId(number), Identity(identity), ipv4, ipv6, namespace, name
    )
    for node, number, identity, ipv4, ipv6, namespace, name in (
        (NODE2, 1, 400, "10.244.0.66", "", "shop", "db"),
        (NODE1, 7, 300, "10.244.0.2", "fd00:10::2", "shop", "web"),
        (NODE1, 8, 500, "", "fd00:10::3", "default", "probe"),
    )
}
IDENTITIES = {
    Identity(400): IdentityRow(("k8s:app=db", "k8s:io.kubernetes.pod.namespace=shop")),
    Identity(300): IdentityRow(("k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop")),
}
LOCAL = LocalEndpoint(
    id=EndpointId(7),
    namespace="shop",
    name="web",
    node=NODE1,
    state=EndpointState.READY,
    identity=Identity(300),
    labels=("k8s:app=web", "k8s:tier=front"),
    ipv4="10.244.0.2",
    gateway="10.244.0.1",
    mac="02:00:00:00:00:02",
    interface="eth0",
    host_interface="lxc7",
    ifindex=12,
    netns="/run/netns/web",
    policy_revision=41,
)

DROP = Flow(
    time_ns=0,
    node=NODE1,
    kind=FlowKind.DROP,
    verdict=FlowVerdict.DROPPED,
    protocol="tcp",
    source="10.244.0.2",
    destination="10.244.0.66",
    source_port=40000,
    destination_port=5432,
    source_identity=300,
    destination_identity=400,
    source_endpoint="shop/web",
    destination_endpoint="shop/db",
    direction=Direction.INGRESS,
    reason="policy-denied",
)


def policy_row(
    name: str, *, kind: str = "CiliumNetworkPolicy", namespace: str = "shop", annotations: Any = None, **more: Any
) -> PolicyObject:
    """Return a stored policy that isolates the pods whose label ``app`` is its name."""
    body: dict[str, Any] = {
        "apiVersion": "cilium.io/v2",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"endpointSelector": {"matchLabels": {"app": name}}, "ingress": [{}]},
    }
    if annotations:
        body["metadata"]["annotations"] = annotations
    return PolicyObject(kind, namespace, name, msgspec.json.encode(body).decode(), **{"author": "ann", **more})


POLICIES = {
    "CiliumNetworkPolicy/shop/db": policy_row("db"),
    "CiliumNetworkPolicy/shop/web": policy_row("web", annotations={"cilia.io/shadow": "true"}),
}


def status(node: NodeName, **more: Any) -> AgentStatus:
    """Return the status of an agent that is well."""
    found: dict[str, Any] = {
        "node": node,
        "state": AgentState.READY,
        "version": "0.1.0",
        "pid": 4711,
        "uptime_seconds": 61.7,
        "ipv4": NODES[node].ipv4,
        "pod_cidrs": NODES[node].pod_cidrs,
        "endpoints": 2,
        "endpoints_ready": 2,
        "rss_bytes": 61_400_000,
        "bus_connected": True,
        "tables": (TableStatus("nodes", True, 1, 2, 7, 0), TableStatus("endpoints", True, 2, 3, 9, 1)),
        "loops": (LoopStatus(LoopName.IPCACHE, 9, 0, 0),),
    }
    return AgentStatus(**{**found, **more})


def changed(*changes: tuple[str, ChangeAction], revision: int = 42, **more: Any) -> PoliciesChanged:
    """Return the answer to a change of policies."""
    return PoliciesChanged(Revision(revision), tuple(PolicyChange(key, action) for key, action in changes), **more)
