"""A change that a node has no room for is refused by name before it is stored; trying it out leaves
no trace.
"""

import json
from collections.abc import Mapping

import pytest

from cilia.contracts.ids import EndpointId, Identity, NodeName
from cilia.contracts.labels import parse_labels
from cilia.contracts.messages import ProblemCode
from cilia.contracts.tables import Endpoint, EndpointKey, PolicyObject
from cilia.policy.engine.options import Options
from services.policy.changes.capacity import Admission
from services.policy.changes.errors import TooManyEntries
from services.policy.resolution.events import EndpointEvent, IdentityEvent, PolicyEvent
from services.policy.resolution.identity_nodes import IdentityNodes
from services.policy.resolution.parse_cache import ParseCache
from services.policy.resolution.resolver import EngineResolver

WEB, DB = Identity(300), Identity(301)
PEERS = tuple(Identity(1000 + number) for number in range(50))
NODES = {WEB: ("n1", "n2"), DB: ("n2",)}
PORTS = tuple(range(2000, 2400, 2))
OPEN = 1
"""Entry of the direction that nothing isolates."""
HOST = 1
"""The node's own entry, once ingress is isolated."""


def key(name: str) -> str:
    return f"CiliumNetworkPolicy/x/{name}"


def policy(name: str, app: str, ports: tuple[int, ...] = PORTS, peer: str = "peer") -> PolicyObject:
    numbers = [{"port": str(port), "protocol": "TCP"} for port in ports]
    rule = {
        "fromEndpoints": [{"matchLabels": {"role": peer}}],
        "toPorts": [{"ports": numbers[at : at + 40]} for at in range(0, len(numbers), 40)],
    }
    spec = {"endpointSelector": {"matchLabels": {"app": app}}, "ingress": [rule]}
    meta = {"name": name, "namespace": "x"}
    document = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": meta, "spec": spec}
    return PolicyObject("CiliumNetworkPolicy", "x", name, json.dumps(document))


@pytest.fixture
def resolver() -> EngineResolver:
    found = EngineResolver(ParseCache(), Options())
    namespace = "k8s:io.kubernetes.pod.namespace=x"
    found.load(
        [
            IdentityEvent(WEB, parse_labels(["k8s:app=web", namespace])),
            IdentityEvent(DB, parse_labels(["k8s:app=db", namespace])),
            *(IdentityEvent(each, parse_labels(["k8s:role=peer", f"k8s:n={each}", namespace])) for each in PEERS),
        ]
    )
    return found


@pytest.fixture
def identity_nodes() -> IdentityNodes:
    found = IdentityNodes()
    numbers = iter(range(1, 9))
    for identity, nodes in NODES.items():
        for node in nodes:
            endpoint = EndpointKey(NodeName(node), EndpointId(next(numbers)))
            found.take(EndpointEvent(endpoint, Endpoint(endpoint.node, endpoint.id, identity, "10.0.0.1")))
    return found


def admission(resolver: EngineResolver, identity_nodes: IdentityNodes, **capacity: int) -> Admission:
    async def capacities(nodes: set[NodeName]) -> Mapping[NodeName, int]:
        return {node: capacity.get(node, 1000) for node in nodes}

    return Admission(resolver, identity_nodes, capacities)


def states(resolver: EngineResolver) -> dict[str, object]:
    return {shard: dict(rows) for shard, rows in resolver.rows.items()}


async def test_peers_that_share_their_ports_cost_an_entry_each_and_the_ports_one_more(
    resolver: EngineResolver, identity_nodes: IdentityNodes
) -> None:
    (node,) = await admission(resolver, identity_nodes).admit({key("db"): policy("db", "db")})
    entries = OPEN + HOST + len(PEERS) + len(PORTS)
    assert node.node == "n2"
    assert node.entries == entries + 2 * OPEN
    assert node.peak == entries + 4 * OPEN


async def test_what_was_forecast_is_what_comes(resolver: EngineResolver, identity_nodes: IdentityNodes) -> None:
    wanted = {key("web"): policy("web", "web"), key("db"): policy("db", "db", PORTS[:7])}
    found = await admission(resolver, identity_nodes).admit(wanted)
    resolver.take([PolicyEvent(name, row) for name, row in wanted.items()])
    assert {each.node: each.entries for each in found} == {
        node: sum(len(resolver.rows[str(each)]) for each in identity_nodes.on(NodeName(node))) for node in ("n1", "n2")
    }


async def test_what_does_not_fit_is_refused_with_policy_subject_node_and_numbers(
    resolver: EngineResolver, identity_nodes: IdentityNodes
) -> None:
    wanted = {key("big"): policy("big", "web"), key("small"): policy("small", "web", (80,), peer="nobody")}
    with pytest.raises(TooManyEntries) as refused:
        await admission(resolver, identity_nodes, n2=250).admit(wanted)
    problem = refused.value.problem
    assert problem.code is ProblemCode.EXHAUSTED
    assert problem.field == key("big")
    assert problem.message == (
        f"{key('big')}: its subject with identity 300 wants 252 entries; n2 would need 256 while it changes, "
        "254 afterwards, and holds 250"
    )


async def test_a_change_that_fits_afterwards_and_not_while_it_is_made_is_refused(
    resolver: EngineResolver, identity_nodes: IdentityNodes
) -> None:
    resolver.take([PolicyEvent(key("web"), policy("web", "web"))])
    with pytest.raises(TooManyEntries):
        await admission(resolver, identity_nodes, n1=400).admit({key("web"): policy("web", "web", PORTS[:-1])})


async def test_deleting_is_forecast_too(resolver: EngineResolver, identity_nodes: IdentityNodes) -> None:
    resolver.take([PolicyEvent(key("db"), policy("db", "db"))])
    (node,) = await admission(resolver, identity_nodes).admit({key("db"): None})
    assert node.entries == 4 * OPEN


async def test_trying_out_leaves_no_trace(resolver: EngineResolver, identity_nodes: IdentityNodes) -> None:
    resolver.take([PolicyEvent(key("web"), policy("web", "web"))])
    before = states(resolver)
    sizes = {shard: resolver.size(Identity(int(shard))) for shard in resolver.rows}
    wanted = {key("web"): policy("web", "db", (1,)), key("new"): policy("new", "web", (80, 443))}
    await admission(resolver, identity_nodes).admit(wanted)
    assert states(resolver) == before
    assert sizes == {shard: len(rows) for shard, rows in resolver.rows.items()}
    difference = resolver.take([PolicyEvent(name, row) for name, row in wanted.items()])
    mirror = {each: dict(rows) for each, rows in before.items()}  # type: ignore[call-overload]
    for each, entry in difference.items():
        mirror[str(each.subject)].pop(each, None)
        if entry is not None:
            mirror[str(each.subject)][each] = entry
    assert mirror == states(resolver)
