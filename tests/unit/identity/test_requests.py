"""Calls of the identity service: what they write, and which field they refuse."""

from random import Random

import msgspec
import pytest

from cilia.contracts.identities import prefix_range
from cilia.contracts.identity_service import (
    AllocateIdentity,
    AllocatePrefixes,
    PublishEndpoint,
    ReleaseIdentity,
    WithdrawEndpoint,
)
from cilia.contracts.ids import EndpointId, Identity, Incarnation, NodeName
from cilia.contracts.keys import Keys
from cilia.contracts.tables import Endpoint
from cilia.errors import Refused
from services.identity.address_labels import is_of_node, node_labels, prefix_labels, prefix_of
from services.identity.allocator import Allocator
from services.identity.cache import IdentityCache
from services.identity.label_filter import read_label_filter
from services.identity.requests import Requests
from tests.fakes.clock import in_fake_time
from tests.fakes.etcd import FakeEtcd

KEYS = Keys("test")
N1 = NodeName("n1")


async def service() -> tuple[Requests, FakeEtcd, Incarnation]:
    etcd, cache = FakeEtcd(), IdentityCache(KEYS)
    pods, cidrs = (Allocator(etcd, KEYS, cache, numbers, Random(1)) for numbers in (range(256, 300), prefix_range()))
    incarnation = Incarnation(etcd.set(KEYS.node(N1), b"{}"))
    return Requests(etcd, KEYS, pods, cidrs, read_label_filter(())), etcd, incarnation


def row(**fields: object) -> Endpoint:
    return msgspec.structs.replace(Endpoint(N1, EndpointId(7), Identity(0), "10.0.0.9"), **fields)


@in_fake_time
async def test_an_allocation_is_referenced_by_its_holder_until_it_is_released() -> None:
    requests, etcd, _ = await service()
    allocated = await requests.allocate(AllocateIdentity(("app=web",), "n1"))
    assert etcd.value(KEYS.identity_ref(allocated.identity, "n1")) == b""
    assert etcd.value(KEYS.identity(allocated.identity)) == b"k8s:app=web;"
    for _ in range(2):
        await requests.release(ReleaseIdentity(allocated.identity, "n1"))
    assert etcd.keys(KEYS.identity_refs) == []


@in_fake_time
async def test_a_reserved_label_means_its_number_and_nothing_is_allocated() -> None:
    requests, etcd, incarnation = await service()
    assert (await requests.allocate(AllocateIdentity(("reserved:init",), "n1"))).identity == 5
    assert (await requests.publish(PublishEndpoint(row(), ("reserved:health",), incarnation))).endpoint.identity == 4
    assert etcd.keys(KEYS.identities) == []


@in_fake_time
async def test_an_endpoint_is_written_with_the_identity_of_its_labels_and_stays() -> None:
    requests, etcd, incarnation = await service()
    published = await requests.publish(
        PublishEndpoint(row(identity=Identity(99)), ("app=web", "pod-template-hash=1"), incarnation)
    )
    written = msgspec.json.decode(etcd.value(KEYS.endpoint(N1, EndpointId(7))) or b"", type=Endpoint)
    assert written == published.endpoint
    assert etcd.value(KEYS.identity(written.identity)) == b"k8s:app=web;"
    record = await etcd.get(KEYS.endpoint(N1, EndpointId(7)))
    assert record is not None
    assert (record.lease, record.mod_revision) == (0, published.revision)
    for _ in range(2):
        await requests.withdraw(WithdrawEndpoint(N1, EndpointId(7)))
    assert etcd.keys(KEYS.endpoints) == []


@in_fake_time
async def test_prefixes_get_identities_at_one_revision_or_later() -> None:
    requests, etcd, _ = await service()
    revised = await requests.prefixes(AllocatePrefixes(("10.0.0.0/8", "fd00::/8", "10.0.0.0/8")))
    assert len(etcd.keys(KEYS.identities)) == 2
    assert revised.revision == etcd.revision
    assert (await requests.prefixes(AllocatePrefixes(()))).revision == 0


@pytest.mark.parametrize(
    ("labels", "holder", "field"),
    [
        ((), "n1", "labels"),
        (("a;b",), "n1", "labels"),
        (("app=1", "app=2"), "n1", "labels"),
        (("pod-template-hash=1",), "n1", "labels"),
        (("app=web",), "", "holder"),
        (("app=web",), "a/b", "holder"),
    ],
)
def test_an_impossible_allocation_is_refused_by_field(labels: tuple[str, ...], holder: str, field: str) -> None:
    @in_fake_time
    async def run() -> None:
        requests, etcd, _ = await service()
        with pytest.raises(Refused) as caught:
            await requests.allocate(AllocateIdentity(labels, holder))
        assert caught.value.problem.field == field
        assert etcd.keys(KEYS.root) == [KEYS.node(N1)]

    run()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"node": ""}, "endpoint.node"),
        ({"node": "a/b"}, "endpoint.node"),
        ({"id": 0}, "endpoint.id"),
        ({"id": 65_536}, "endpoint.id"),
        ({"ipv4": "10.0.0.256"}, "endpoint.ipv4"),
        ({"ipv4": "", "ipv6": ""}, "endpoint.ipv4"),
        ({"ipv6": "10.0.0.1"}, "endpoint.ipv6"),
    ],
)
def test_an_impossible_endpoint_is_refused_by_field(fields: dict[str, object], named: str) -> None:
    @in_fake_time
    async def run() -> None:
        requests, etcd, incarnation = await service()
        with pytest.raises(Refused) as caught:
            await requests.publish(PublishEndpoint(row(**fields), ("app=web",), incarnation))
        assert caught.value.problem.field == named
        assert etcd.keys(KEYS.root) == [KEYS.node(N1)]

    run()


@in_fake_time
async def test_an_endpoint_of_one_family_is_possible() -> None:
    requests, _, incarnation = await service()
    published = await requests.publish(PublishEndpoint(row(ipv4="", ipv6="fd00::9"), ("app=web",), incarnation))
    assert published.endpoint.ipv6 == "fd00::9"


@pytest.mark.parametrize("incarnation", [0, -1, 12345])
@pytest.mark.parametrize("labels", [("app=web",), ("reserved:init",)])
def test_a_node_that_is_no_member_publishes_nothing(incarnation: int, labels: tuple[str, ...]) -> None:
    @in_fake_time
    async def run() -> None:
        requests, etcd, _ = await service()
        before = etcd.keys()
        with pytest.raises(Refused) as caught:
            await requests.publish(PublishEndpoint(row(), labels, Incarnation(incarnation)))
        assert caught.value.problem.field == "incarnation"
        assert etcd.keys() == before

    run()


def test_the_labels_of_addresses_name_them_and_what_they_are_of() -> None:
    assert prefix_labels("10.0.0.0/8") == "cidr:10.0.0.0/8=;reserved:world-ipv4=;"
    assert "reserved:world-ipv6" in prefix_labels("fd00::/8")
    assert (is_of_node(node_labels(("zone=a",))), is_of_node(prefix_labels("10.0.0.0/8"))) == (True, False)
    assert node_labels(()) == ""
    assert prefix_of(frozenset()) == ""
