"""Names behind numbers: of local pods, of other nodes' pods, of policies, of named ports."""

import asyncio

from msgspec.structs import replace

from cilia.contracts.ids import EndpointId, Identity, NodeName
from cilia.contracts.tables import ENDPOINTS, Endpoint, EndpointKey, policy_cookie
from services.agent.address import number, packed
from services.agent.endpoint.store import Endpoints
from services.agent.flows.lookups import PodLookup, PolicyNames
from services.agent.ipcache.desired import Ipcache
from tests.unit.agent.endpoint.test_store import pod
from tests.unit.agent.loops import running
from tests.unit.agent.tables import MirroredTable

HTTP, DNS = ("http", "TCP", 80), ("dns", "UDP", 53)
N2 = NodeName("node2")
KEY = EndpointKey(N2, EndpointId(9))
DB = Endpoint(N2, EndpointId(9), Identity(301), "10.2.0.5", "fd00:2::5", "shop", "db", (DNS,))


def lookup() -> PodLookup:
    local = Endpoints([replace(pod(7), named_ports=(HTTP,))])
    ipcache = Ipcache(NodeName("node1"), "192.0.2.1", tunnels=True)
    ipcache.feed_endpoints({KEY: DB}, ())
    table: MirroredTable[EndpointKey, Endpoint] = MirroredTable()
    table.commit({KEY: DB}, shard=ENDPOINTS.shard(KEY))
    return PodLookup(local, ipcache, table.subscriber)


def test_a_local_pod_is_named_by_its_id() -> None:
    assert lookup().local_name(7) == "default/web"
    assert lookup().local_name(8) == ""


def test_a_pod_of_another_node_is_named_by_each_of_its_addresses() -> None:
    names = lookup()
    assert names.remote_name(number("10.2.0.5")) == "shop/db"
    assert names.remote_name(number("fd00:2::5")) == "shop/db"
    assert names.remote_name(number("10.2.0.6")) == ""


def test_named_ports_are_those_of_the_local_pod_or_of_who_has_the_address() -> None:
    names = lookup()
    assert names.named_ports(7, packed(number("10.1.0.2"))) == (HTTP,)
    assert names.named_ports(0, packed(number("10.2.0.5"))) == (DNS,)
    assert names.named_ports(0, packed(number("198.51.100.1"))) == ()


def test_a_local_pod_that_has_gone_is_looked_for_by_its_address() -> None:
    assert lookup().named_ports(99, packed(number("10.2.0.5"))) == (DNS,)


async def test_policies_are_named_by_their_cookies_also_after_they_are_gone() -> None:
    table: MirroredTable[str, object] = MirroredTable()
    policies = PolicyNames(table.subscriber)  # type: ignore[arg-type]
    key = "NetworkPolicy/shop/web"
    async with running(policies.watch):
        table.commit({key: object()})
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        table.commit(removes=[key])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert policies.get(policy_cookie(key)) == key
    assert policies.get(0xAB) == "#000000ab"
    assert lookup().names(policies).policy(policy_cookie(key)) == key
