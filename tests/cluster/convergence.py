"""Convergence: the kernels' maps hold what follows from etcd alone, and nothing else."""

import asyncio
import time
from collections.abc import Mapping
from ipaddress import ip_network
from typing import TypeVar

import msgspec

from cilia.contracts.agent import EndpointPolicy, EndpointReference, MapContents, MapQuery
from cilia.contracts.identities import Reserved
from cilia.contracts.ids import Identity
from cilia.contracts.keys import Keys
from cilia.contracts.tables import Endpoint, Node, PolicyEntry, PolicyKey
from cilia.errors import Failure
from cilia.kvstore import EtcdConfig, Record, connect_kvstore
from cilia.policy.engine.options import Options
from laboratory.cluster import LocalCluster
from services.policy.resolution.events import read_event
from services.policy.resolution.parse_cache import ParseCache
from services.policy.resolution.resolver import EngineResolver

CONVERGENCE_SECONDS = 60.0

K = TypeVar("K")
Resolved = Mapping[Identity, Mapping[PolicyKey, PolicyEntry]]


async def read_etcd(cluster: LocalCluster) -> list[Record]:
    """Return all that the cluster has in etcd."""
    with cluster.entered():  # gRPC opens its socket in a thread of its own, which inherits the namespace
        context = connect_kvstore(EtcdConfig(endpoints=(cluster.layout.etcd,)))
        etcd = await context.__aenter__()
    try:
        records, _ = await etcd.range(Keys(cluster.layout.name).root)
    finally:
        await context.__aexit__(None, None, None)
    return records


def resolve(keys: Keys, records: list[Record]) -> Resolved:
    """Resolve policy anew, from nothing."""
    events = [read_event(keys, record.key, record.value) for record in records]
    resolver = EngineResolver(ParseCache(), Options())
    resolver.load([event for event in events if event is not None])
    return {
        Identity(int(shard)): {key.key: entry for key, entry in rows.items()} for shard, rows in resolver.rows.items()
    }


async def converge(cluster: LocalCluster) -> float:
    """Wait until every node's kernel holds exactly what etcd says; returns the seconds that it
    took.
    """
    started = time.monotonic()
    while wrong := await differences(cluster):
        if time.monotonic() - started > CONVERGENCE_SECONDS:
            raise AssertionError("\n".join(wrong[:20]))
        await asyncio.sleep(0.1)
    return time.monotonic() - started


async def differences(cluster: LocalCluster) -> list[str]:
    """Return the differences between kernels and etcd in words."""
    keys = Keys(cluster.layout.name)
    records = await read_etcd(cluster)
    endpoints = [
        msgspec.json.decode(each.value, type=Endpoint) for each in records if each.key.startswith(keys.endpoints)
    ]
    nodes = [msgspec.json.decode(each.value, type=Node) for each in records if each.key.startswith(keys.nodes)]
    resolved = resolve(keys, records)
    try:
        return [
            difference
            for node in nodes
            for difference in (
                *_ipcache(cluster, node, nodes, endpoints),
                *_endpoints(cluster, node, endpoints),
                *_policies(cluster, node, endpoints, resolved),
            )
        ]
    except Failure as failure:
        return [str(failure)]


def _ipcache(cluster: LocalCluster, node: Node, nodes: list[Node], endpoints: list[Endpoint]) -> list[str]:
    homes = {each.name: each.ipv4 for each in nodes}
    wanted: dict[str, tuple[int, str]] = {
        address: (each.identity, "0.0.0.0" if each.node == node.name else homes[each.node])
        for each in endpoints
        for address in _both(each)
    }
    for each in nodes:
        is_here = each.name == node.name
        wanted |= dict.fromkeys(
            _both(each), (Reserved.HOST, "0.0.0.0") if is_here else (Reserved.REMOTE_NODE, each.ipv4)
        )
        wanted |= dict.fromkeys(
            _gateways(each), (Reserved.HOST, "0.0.0.0") if is_here else (Reserved.REMOTE_NODE, each.ipv4)
        )
    held = {
        str(key["address"]): (value["identity"], value["tunnel"])
        for key, value in _map(cluster, node, "cilia_ipcache")
        if key["prefixlen"] == 128
    }
    own = {address for address, (identity, _) in held.items() if identity == Reserved.HOST}  # more than etcd knows
    held = {address: entry for address, entry in held.items() if address in wanted or address not in own}
    return _compare(f"{node.name} ipcache", wanted, held)


def _both(row: Node | Endpoint) -> list[str]:
    return [address for address in (row.ipv4, row.ipv6) if address]


def _gateways(node: Node) -> list[str]:
    blocks = [ip_network(cidr) for cidr in node.pod_cidrs]
    first = {block.version: block for block in reversed(blocks)}
    return [str(block[1]) for block in first.values()]


def _endpoints(cluster: LocalCluster, node: Node, endpoints: list[Endpoint]) -> list[str]:
    wanted = {
        address: (each.id, each.identity) for each in endpoints if each.node == node.name for address in _both(each)
    }
    held = {
        str(key["address"]): (value["id"], value["identity"]) for key, value in _map(cluster, node, "cilia_endpoints")
    }
    return _compare(f"{node.name} endpoints", wanted, held)


def _policies(cluster: LocalCluster, node: Node, endpoints: list[Endpoint], resolved: Resolved) -> list[str]:
    wrong = []
    for each in endpoints:
        if each.node != node.name:
            continue
        policy = cluster.agent_call(node.name, "policy-get", EndpointReference(id=each.id), EndpointPolicy)
        held = {rule.key: rule.entry for rule in policy.rules}
        wrong += _compare(f"{node.name} policy of {each.namespace}/{each.name}", resolved.get(each.identity, {}), held)
    return wrong


def _map(cluster: LocalCluster, node: Node, name: str) -> tuple[tuple[dict[str, int | str], dict[str, int | str]], ...]:
    return cluster.agent_call(node.name, "map-get", MapQuery(name, 100_000), MapContents).entries


def _compare(what: str, wanted: Mapping[K, object], held: Mapping[K, object]) -> list[str]:
    missing = [f"{what}: {key} is missing" for key in wanted.keys() - held.keys()]
    foreign = [f"{what}: {key} -> {held[key]} should not be there" for key in held.keys() - wanted.keys()]
    other = [
        f"{what}: {key} is {held[key]}, should be {wanted[key]}"
        for key in wanted.keys() & held.keys()
        if wanted[key] != held[key]
    ]
    return missing + foreign + other
