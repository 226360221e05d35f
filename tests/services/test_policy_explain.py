"""``policy.explain`` asked over the bus, of the service with its real engine and a real kvstore."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from cilia.bus import BusConfig
from cilia.contracts.explanations import Explained, ExplainFlow, PeerSelector
from cilia.contracts.identities import NODE_SCOPE
from cilia.contracts.ids import EndpointId, Identity, NodeName, Revision
from cilia.contracts.keys import Keys
from cilia.contracts.labels import canonical, node, workload
from cilia.contracts.policies import ApplyPolicies, PoliciesChanged
from cilia.contracts.tables import Endpoint, Node
from cilia.errors import Refused
from cilia.kvstore import EtcdConfig
from laboratory.services import Stage
from services.policy.__main__ import run
from services.policy.config import Config
from tests.services.ask import ask

N1 = NodeName("n1")
POLICY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: db}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: web}}]
    toPorts: [{ports: [{port: sql, protocol: TCP}]}]
"""
CIDR_AND_ZONE = """
  - fromCIDR: [192.0.2.0/24]
  - fromNodes: [{matchLabels: {zone: a}}]
"""


@asynccontextmanager
async def policy_service(stage: Stage) -> AsyncIterator[None]:
    config = Config(
        cluster=stage.cluster,
        nats=BusConfig(urls=(stage.nats.url,)),
        etcd=EtcdConfig(endpoints=(stage.etcd.address,)),
    )
    running = asyncio.create_task(run(config))
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def place(stage: Stage, number: int, name: str, *ports: tuple[str, str, int]) -> None:
    keys, identity = Keys(stage.cluster), Identity(255 + number)
    row = Endpoint(N1, EndpointId(number), identity, f"10.0.0.{number}", "", "shop", name, ports)
    await stage.kvstore.put(keys.identity(identity), canonical(workload("shop", {"app": name})).encode())
    await stage.kvstore.put(keys.endpoint(N1, EndpointId(number)), msgspec.json.encode(row))


async def explain(stage: Stage, source: str, port: str, at_least: int = 0) -> Explained:
    request = ExplainFlow(PeerSelector(source), PeerSelector("shop/db"), port, Revision(at_least))
    return await ask(stage.bus, "policy", "explain", request, Explained)


async def place_node(stage: Stage, name: str, ipv4: str, *labels: str) -> None:
    row = Node(NodeName(name), ipv4, labels=labels, pod_cidrs=(f"10.{ipv4[-1]}.0.0/24",))
    await stage.kvstore.put(Keys(stage.cluster).node(NodeName(name)), msgspec.json.encode(row))


async def test_an_address_is_that_of_the_pod_or_the_node_that_has_it(stage: Stage) -> None:
    """Nodes aren't the world, whichever prefix a policy names: the kernel knows them as nodes."""
    await place(stage, 1, "db", ("sql", "TCP", 5432))
    await place(stage, 2, "web")
    await place_node(stage, "n1", "192.0.2.1")
    await place_node(stage, "n2", "192.0.2.2")
    await place_node(stage, "n3", "192.0.2.3", "zone=a")
    zone = Identity(NODE_SCOPE + 1)
    await stage.kvstore.put(Keys(stage.cluster).identity(zone), canonical(node(["zone=a"])).encode())
    async with stage.inside("identity"), policy_service(stage):
        changed = await ask(stage.bus, "policy", "apply", ApplyPolicies(POLICY + CIDR_AND_ZONE), PoliciesChanged)
        found = {
            name: (await explain(stage, name, "sql/TCP", changed.revision)).ingress
            for name in ("10.0.0.2", "192.0.2.1", "10.1.0.1", "192.0.2.2", "10.2.0.1", "192.0.2.3", "192.0.2.9")
        }
        assert {name: (side.allowed, side.because.value) for name, side in found.items()} == {
            "10.0.0.2": (True, "rule"),
            "192.0.2.1": (True, "host"),
            "10.1.0.1": (True, "host"),
            "192.0.2.2": (False, "default-deny"),
            "10.2.0.1": (False, "default-deny"),
            "192.0.2.3": (True, "rule"),
            "192.0.2.9": (True, "rule"),
        }


async def test_the_service_explains_flows_between_pods_that_live_in_the_cluster(stage: Stage) -> None:
    await place(stage, 1, "db", ("sql", "TCP", 5432))
    await place(stage, 2, "web")
    await place(stage, 3, "bench")
    async with policy_service(stage):
        changed = await ask(stage.bus, "policy", "apply", ApplyPolicies(POLICY), PoliciesChanged)
        explained = await explain(stage, "shop/web", "sql/TCP", changed.revision)
        assert explained.allowed
        assert explained.revision >= changed.revision
        assert [place.rule for place in explained.ingress.rules] == ["spec.ingress[0]"]
        denied = await explain(stage, "shop/bench", "sql/TCP")
        assert [item.wanted for item in denied.ingress.nearest[0].mismatches] == ["app=web"]
        with pytest.raises(Refused, match="'shop/moon'"):
            await explain(stage, "shop/moon", "80/TCP")
        with pytest.raises(Refused, match="'mysql' is no port that shop/db names"):
            await explain(stage, "shop/web", "mysql/TCP")
