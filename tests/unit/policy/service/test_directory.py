"""Owners of names and addresses in the running cluster."""

import pytest

from cilia.contracts.identities import NODE_SCOPE
from cilia.contracts.ids import EndpointId, Identity, NodeName
from cilia.contracts.labels import Labels, node
from cilia.contracts.tables import Endpoint, Node
from cilia.policy.explain.parties import Owner
from services.policy.resolution.directory import ClusterDirectory

N1, N2, ZONED = NodeName("n1"), NodeName("n2"), Identity(NODE_SCOPE + 1)
LABELS: dict[Identity, Labels] = {ZONED: node(["zone=a"])}
DIRECTORY = ClusterDirectory(
    (
        Endpoint(N1, EndpointId(1), Identity(300), "10.0.0.7", "fd00::7", "shop", "web"),
        Endpoint(N2, EndpointId(1), Identity(301), "10.0.1.7", "", "shop", "db"),
        Endpoint(N2, EndpointId(2), Identity(302), "10.0.1.8", "", "lab", "web"),
    ),
    (
        Node(N1, "192.0.2.1", "2001:db8::1", ("zone=a",), ("10.0.0.0/24", "fd00::/64")),
        Node(N2, "192.0.2.2", pod_cidrs=("10.0.1.0/24",)),
        Node(NodeName("n3"), "192.0.2.3", labels=("zone=b",)),
    ),
    LABELS,
)


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("shop/web", Owner("shop/web", Identity(300), N1)),
        ("lab/web", Owner("lab/web", Identity(302), N2)),
        ("web", None),
        ("shop/", None),
        ("shop/web/1", None),
    ],
)
def test_a_pod_is_found_by_namespace_and_name(name: str, owner: Owner | None) -> None:
    assert DIRECTORY.pod(name) == owner


@pytest.mark.parametrize(
    ("address", "owner"),
    [
        ("10.0.0.7", Owner("shop/web", Identity(300), N1)),
        ("fd00::7", Owner("shop/web", Identity(300), N1)),
        ("192.0.2.1", Owner("n1", ZONED, "n1", is_node=True)),
        ("2001:db8::1", Owner("n1", ZONED, "n1", is_node=True)),
        ("10.0.0.1", Owner("n1", ZONED, "n1", is_node=True)),
        ("fd00::1", Owner("n1", ZONED, "n1", is_node=True)),
        ("192.0.2.2", Owner("n2", Identity(6), "n2", is_node=True)),
        ("192.0.2.9", None),
    ],
)
def test_an_address_is_the_pods_or_the_nodes_that_has_it(address: str, owner: Owner | None) -> None:
    assert DIRECTORY.at(address) == owner


def test_a_node_whose_labels_have_no_identity_yet_is_a_remote_node() -> None:
    found = DIRECTORY.at("192.0.2.3")
    assert found is not None
    assert (found.name, found.identity) == ("n3", 6)
