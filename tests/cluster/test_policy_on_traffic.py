"""Policies decide over real packets, between all pairs of pods, on one node and across nodes,
through live changes.
"""

import pytest

from laboratory.cluster import LocalCluster
from laboratory.connectivity import DNS, HTTP, Attempt, differences, serving
from laboratory.pod import Pod
from laboratory.policies import Policies
from tests.cluster.convergence import converge

pytestmark = pytest.mark.cluster

WEB_FROM_CLIENTS = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: client}}]
    toPorts: [{ports: [{port: "80", protocol: TCP}]}]
"""
DB_ISOLATED = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - podSelector: {matchExpressions: [{key: app, operator: In, values: [web, client]}]}
    - namespaceSelector: {matchLabels: {team: ops}}
    ports: [{protocol: UDP, port: 53}]
"""


def make_pods(cluster: LocalCluster) -> list[Pod]:
    ops = {"team": "ops"}
    return [
        cluster.pod("node1", "shop", "web1", {"app": "web"}),
        cluster.pod("node2", "shop", "web2", {"app": "web"}),
        cluster.pod("node1", "shop", "client1", {"app": "client"}),
        cluster.pod("node3", "shop", "client3", {"app": "client"}),
        cluster.pod("node2", "shop", "db2", {"app": "db"}),
        cluster.pod("node1", "shop", "db1", {"app": "db"}),
        cluster.pod("node1", "ops", "probe1", {"app": "probe"}, namespace_labels=ops),
        cluster.pod("node3", "ops", "client3", {"app": "client"}, namespace_labels=ops),
    ]


def app(name: str) -> str:
    return name.partition("/")[2].rstrip("0123456789")


def everything(attempt: Attempt) -> bool:
    return True


def web_only_from_clients(attempt: Attempt) -> bool:
    if not attempt.destination.startswith("shop/web"):
        return True
    return attempt.source.startswith("shop/client") and (attempt.protocol, attempt.port) == ("tcp", HTTP)


def db_only_dns(attempt: Attempt) -> bool:
    if attempt.source.startswith("shop/db"):
        return False
    if not attempt.destination.startswith("shop/db"):
        return web_only_from_clients(attempt)
    friend = attempt.source.startswith(("ops/", "shop/web", "shop/client"))
    return friend and (attempt.protocol, attempt.port) == ("udp", DNS)


async def test_without_a_policy_everyone_reaches_everyone(cluster: LocalCluster) -> None:
    pods = make_pods(cluster)
    async with serving(pods):
        assert await differences(pods, everything) == []


async def test_policies_decide_over_every_pair_as_they_come_and_go(cluster: LocalCluster, policies: Policies) -> None:
    pods = make_pods(cluster)
    async with serving(pods):
        policies.apply(WEB_FROM_CLIENTS)
        assert await differences(pods, web_only_from_clients) == []
        policies.apply(DB_ISOLATED)
        assert await differences(pods, db_only_dns) == []
        policies.delete("NetworkPolicy/shop/db")
        assert await differences(pods, web_only_from_clients) == []
        policies.delete("CiliumNetworkPolicy/shop/web")
        assert await differences(pods, everything) == []


async def test_other_labels_are_another_identity_at_once(cluster: LocalCluster, policies: Policies) -> None:
    pods = make_pods(cluster)
    clients = {"shop/client1", "shop/client3"}

    def expected(attempt: Attempt) -> bool:
        if not attempt.destination.startswith("shop/web"):
            return True
        return attempt.source in clients and (attempt.protocol, attempt.port) == ("tcp", HTTP)

    async with serving(pods):
        policies.apply(WEB_FROM_CLIENTS)
        assert await differences(pods, expected) == []
        by_name = {pod.name: pod for pod in pods}
        by_name["shop/client3"].relabel({"app": "former-client"})
        clients.remove("shop/client3")
        by_name["shop/db1"].relabel({"app": "client"})
        clients.add("shop/db1")
        await converge(cluster)
        assert await differences(pods, expected) == []


async def test_pods_come_and_go_under_policy(cluster: LocalCluster, policies: Policies) -> None:
    pods = make_pods(cluster)
    gone = pods.pop(3)
    async with serving(pods):
        policies.apply(WEB_FROM_CLIENTS)
        cluster.pods.remove(gone)
        gone.delete()
        fresh = [
            cluster.pod("node2", "shop", "client2", {"app": "client"}),
            cluster.pod("node3", "shop", "web3", {"app": "web"}),
        ]
        pods += fresh
        async with serving(fresh):
            await converge(cluster)
            assert await differences(pods, web_only_from_clients) == []


async def test_what_is_stored_and_not_enforced_yet_opens_nothing_and_is_said(
    cluster: LocalCluster, policies: Policies
) -> None:
    pods = make_pods(cluster)
    http = WEB_FROM_CLIENTS.replace("protocol: TCP}]", "protocol: TCP}], rules: {http: [{method: GET}]}")
    async with serving(pods):
        refused = policies.cilia("policy", "apply", "-f", "-", text=http)
        assert refused.returncode != 0
        assert await differences(pods, everything) == []
        run = policies.cilia("policy", "apply", "-f", "-", "--wait", "--allow-unenforced", text=http)
        assert run.returncode == 0, run.stderr
        assert "spec.ingress[0].toPorts[0].rules is not enforced yet: spec.ingress[0] allows nobody" in run.stderr
        assert await differences(pods, lambda attempt: app(attempt.destination) != "web") == []
