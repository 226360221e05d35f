"""Labels of a pod's own choice give it nothing that its platform didn't say of it."""

from collections.abc import Iterator

import pytest

from cilia.contracts.agent import CreateEndpoint, EndpointReference, LocalEndpoint, LocalEndpoints, RelabelEndpoint
from cilia.contracts.messages import Empty
from cilia.errors import Refused
from laboratory.attempts import reaches_tcp
from laboratory.cluster import LocalCluster
from laboratory.echo_servers import echoing
from laboratory.namespaces import create_namespace, delete_namespace
from laboratory.policies import Policies

pytestmark = pytest.mark.cluster

PORT = 80
PLATFORM = {
    "io.cilium.k8s.namespace.labels.team": "red",
    "io.kubernetes.pod.namespace": "bank",
    "io.cilium.k8s.policy.serviceaccount": "admin",
    "io.cilium.k8s.policy.cluster": "other",
}
TEAM_RED_ONLY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: team-red, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{namespaceSelector: {matchLabels: {team: red}}}]}]
"""
BY_NAME = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: by-name, namespace: rollout}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: http}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: out-by-name, namespace: rollout}
spec:
  podSelector: {matchLabels: {app: client}}
  policyTypes: [Egress]
  egress: [{to: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: http}]}]
"""


@pytest.fixture
def netns(cluster: LocalCluster) -> Iterator[str]:
    name = f"{cluster.layout.name}-guest"
    create_namespace(name)
    yield f"/run/netns/{name}"
    delete_namespace(name)


@pytest.mark.parametrize("key", PLATFORM)
def test_a_label_of_the_platform_is_refused_by_name_and_leaves_nothing(
    cluster: LocalCluster, netns: str, key: str
) -> None:
    asked = CreateEndpoint("shop", "guest", netns, {"app": "guest", key: PLATFORM[key]})
    with pytest.raises(Refused, match=key) as caught:
        cluster.agent_call("node1", "endpoint-create", asked, LocalEndpoint)
    assert caught.value.problem.field == "labels"
    known = cluster.agent_call("node1", "endpoint-list", Empty(), LocalEndpoints)
    assert "guest" not in {each.name for each in known.endpoints}


async def test_no_relabelling_brings_a_pod_into_another_teams_namespace(
    cluster: LocalCluster, policies: Policies
) -> None:
    web = cluster.pod("node1", "shop", "red-web", {"app": "web"})
    red = cluster.pod("node2", "red", "client", {"app": "client"}, namespace_labels={"team": "red"})
    guest = cluster.pod("node2", "blue", "guest", {"app": "client"}, namespace_labels={"team": "blue"})
    policies.apply(TEAM_RED_ONLY)
    async with echoing([web], tcp=(PORT,)):
        assert await reaches_tcp(red, web.ipv4, PORT)
        assert not await reaches_tcp(guest, web.ipv4, PORT, seconds=1)
        asked = RelabelEndpoint(
            EndpointReference(namespace="blue", name="guest"),
            {"app": "client", "io.cilium.k8s.namespace.labels.team": "red"},
            {"team": "blue"},
        )
        with pytest.raises(Refused, match="team=red"):
            cluster.agent_call("node2", "endpoint-relabel", asked, LocalEndpoint)
        assert not await reaches_tcp(guest, web.ipv4, PORT, seconds=1)


async def test_a_port_name_means_each_pods_own_number_while_a_rollout_changes_it(
    cluster: LocalCluster, policies: Policies
) -> None:
    client = cluster.pod("node2", "rollout", "client", {"app": "client"})
    old = cluster.pod("node1", "rollout", "web-old", {"app": "web"}, named_ports=(("http", "TCP", 8080),))
    policies.apply(BY_NAME)
    new = cluster.pod("node1", "rollout", "web-new", {"app": "web"}, named_ports=(("http", "TCP", 9090),))
    async with echoing([old, new], tcp=(8080, 9090)):
        assert await reaches_tcp(client, old.ipv4, 8080)
        assert await reaches_tcp(client, new.ipv4, 9090)
        assert not await reaches_tcp(client, old.ipv4, 9090, seconds=1)
        assert not await reaches_tcp(client, new.ipv4, 8080, seconds=1)
