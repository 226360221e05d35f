from cilia.contracts.ids import EndpointId, Identity, NodeName
from cilia.contracts.tables import Endpoint, EndpointKey
from services.policy.resolution.events import EndpointEvent
from services.policy.resolution.identity_nodes import IdentityNodes

N1, N2 = NodeName("n1"), NodeName("n2")


def endpoint(node: NodeName, number: int, identity: int) -> EndpointEvent:
    key = EndpointKey(node, EndpointId(number))
    return EndpointEvent(key, Endpoint(node, EndpointId(number), Identity(identity), "10.0.0.1"))


def test_the_nodes_of_identities_follow_endpoints_as_they_come_change_and_go() -> None:
    nodes = IdentityNodes()
    for event in (endpoint(N1, 1, 300), endpoint(N1, 2, 300), endpoint(N2, 1, 300), endpoint(N1, 1, 300)):
        nodes.take(event)
    assert nodes.counts == {300: {"n1": 2, "n2": 1}}
    nodes.take(endpoint(N1, 2, 301))
    assert nodes.counts == {300: {"n1": 1, "n2": 1}, 301: {"n1": 1}}
    for key in (EndpointKey(N1, EndpointId(1)), EndpointKey(N2, EndpointId(1)), EndpointKey(N2, EndpointId(9))):
        nodes.take(EndpointEvent(key, None))
    assert nodes.counts == {301: {"n1": 1}}
