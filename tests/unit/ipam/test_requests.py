"""Calls of ipam: validated by field, carried out by grants."""

from random import Random

import msgspec
import pytest

from cilia.contracts.ids import Incarnation, NodeName
from cilia.contracts.ipam import GrowBlocks, RegisterNode, ShrinkBlocks, UnregisterNode
from cilia.contracts.keys import Keys
from cilia.contracts.tables import Pool
from cilia.errors import Refused
from cilia.kvstore import Reset
from cilia.owner.informer import fold
from services.ipam.cache import IpamCache
from services.ipam.grants import Grants
from services.ipam.removal import Removal
from services.ipam.requests import Requests
from tests.fakes.clock import in_fake_time
from tests.fakes.etcd import FakeEtcd

KEYS = Keys("test")
N1 = NodeName("n1")
GOOD = RegisterNode(N1, "192.0.2.1")


def service() -> Requests:
    etcd, cache = FakeEtcd(), IpamCache(KEYS)
    etcd.set(KEYS.pool("default"), msgspec.json.encode(Pool("10.244.0.0/16", 26)))
    fold(cache, Reset(etcd.revision, tuple(etcd.records.values())))
    return Requests(Grants(etcd, KEYS, cache, Random(1)), Removal(etcd, KEYS, cache, Random(1)), 30.0)


@in_fake_time
async def test_a_node_registers_stays_grows_shrinks_and_leaves() -> None:
    requests = service()
    registered = await requests.register(GOOD)
    assert registered.stale_seconds == 30
    granted = await requests.grow(GrowBlocks(N1, registered.incarnation))
    shrunk = await requests.shrink(ShrinkBlocks(N1, granted.cidr))
    assert registered.revision < granted.revision < shrunk.revision
    await requests.unregister(UnregisterNode(N1))
    with pytest.raises(Refused) as caught:
        await requests.grow(GrowBlocks(N1, registered.incarnation))
    assert (caught.value.problem.code, caught.value.problem.field) == ("not_found", "incarnation")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "N1"}, "name"),
        ({"name": "n.1"}, "name"),
        ({"name": "-n"}, "name"),
        ({"name": "n" * 64}, "name"),
        ({"ipv4": "nowhere"}, "ipv4"),
        ({"ipv4": "fd00::1"}, "ipv4"),
        ({"ipv6": "192.0.2.1"}, "ipv6"),
        ({"labels": ("zone=a", "zone=b")}, "labels"),
        ({"labels": ("a;b",)}, "labels"),
        ({"blocks": ("10.244.0.0/26", "nowhere")}, "blocks"),
        ({"pool": ""}, "pool"),
        ({"pool": "nope"}, "pool"),
    ],
)
def test_an_impossible_registration_is_refused_by_field(fields: dict[str, object], field: str) -> None:
    @in_fake_time
    async def run() -> None:
        with pytest.raises(Refused) as caught:
            await service().register(msgspec.structs.replace(GOOD, **fields))
        assert caught.value.problem.field == field

    run()


@pytest.mark.parametrize("cidr", ["", "10.0.0.0/33", "block", "10.244.0.1/26"])
def test_an_impossible_block_is_refused_by_field(cidr: str) -> None:
    @in_fake_time
    async def run() -> None:
        requests = service()
        await requests.register(GOOD)
        with pytest.raises(Refused) as caught:
            await requests.shrink(ShrinkBlocks(N1, cidr))
        assert caught.value.problem.field == "cidr"

    run()


@in_fake_time
async def test_a_stranger_can_neither_grow_nor_shrink() -> None:
    requests = service()
    await requests.register(GOOD)
    with pytest.raises(Refused, match="register again"):
        await requests.grow(GrowBlocks(N1, Incarnation(999)))
    with pytest.raises(Refused, match="holds no block"):
        await requests.shrink(ShrinkBlocks(NodeName("n2"), "10.244.0.0/26"))
