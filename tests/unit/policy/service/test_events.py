import msgspec

from cilia.contracts.ids import EndpointId, Identity, NodeName
from cilia.contracts.keys import Cause, Keys
from cilia.contracts.labels import parse_labels
from cilia.contracts.tables import Endpoint, EndpointKey, PolicyObject
from services.policy.resolution.events import CauseEvent, EndpointEvent, IdentityEvent, PolicyEvent, read_event

KEYS = Keys("test")
N1, N2 = NodeName("n1"), NodeName("n2")


def endpoint(node: NodeName, number: int, identity: int) -> EndpointEvent:
    key = EndpointKey(node, EndpointId(number))
    return EndpointEvent(key, Endpoint(node, EndpointId(number), Identity(identity), "10.0.0.1"))


def test_keys_that_policy_depends_on_become_events() -> None:
    policy = PolicyObject("CiliumNetworkPolicy", "default", "web", "{}")
    key = "CiliumNetworkPolicy/default/web"
    assert read_event(KEYS, KEYS.policy(key), msgspec.json.encode(policy)) == PolicyEvent(key, policy)
    assert read_event(KEYS, KEYS.policy(key), None) == PolicyEvent(key, None)
    labels = parse_labels(["app=web"])
    assert read_event(KEYS, KEYS.identity(Identity(300)), b"k8s:app=web;") == IdentityEvent(Identity(300), labels)
    event = endpoint(N1, 7, 300)
    assert read_event(KEYS, KEYS.endpoint(N1, EndpointId(7)), msgspec.json.encode(event.row)) == event
    assert read_event(KEYS, KEYS.endpoint(N1, EndpointId(7)), None) == EndpointEvent(event.key, None)
    assert read_event(KEYS, KEYS.node(N1), b"{}") is None


def test_the_cause_of_a_change_is_an_event_and_its_removal_none() -> None:
    cause = Cause("00-1-2-01", 7)
    assert read_event(KEYS, KEYS.policy_cause, msgspec.json.encode(cause)) == CauseEvent(cause)
    assert read_event(KEYS, KEYS.policy_cause, None) is None


def test_an_identity_that_went_has_no_labels() -> None:
    assert read_event(KEYS, KEYS.identity(Identity(300)), None) == IdentityEvent(Identity(300), None)
