"""Reports of an agent, and a policy in shadow, for the tests of the recorder."""

from cilia.contracts.flows import DistinctFlow, FlowPeer, PolicyVerdict, RecordFlows

CLOSED = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: closed, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: db}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: nobody}}]
"""


def flow(port: int, *, source: int = 300, count: int = 1) -> DistinctFlow:
    """Return a flow from web to db."""
    peers = FlowPeer(source, "shop/web"), FlowPeer(301, "shop/db")
    return DistinctFlow(*peers, 6, port, PolicyVerdict.ALLOWED, False, count=count, last_ns=9)


def report(*ports: int, batch: str = "1", node: str = "node1", count: int = 1) -> RecordFlows:
    """Return a report of a flow for each port."""
    return RecordFlows(node, tuple(flow(port, count=count) for port in ports), batch)
