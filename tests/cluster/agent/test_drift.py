"""Changes that others make in the kernel of a node are repaired within seconds, and said."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from cilia.abi import maps
from cilia.abi.enums import GatewayFamily
from cilia.abi.structs import IpcacheEntry, IpcacheKey
from cilia.bus import BusConfig, connect_bus
from cilia.contracts.drift import ForeignChange
from cilia.datapath.array_memory import ArrayMemory
from cilia.datapath.descriptor import get_pinned
from cilia.datapath.maps import Map
from laboratory.wait import wait_until
from services.agent.address import number, packed
from tests.cluster.agent.node import Node, command, until
from tests.cluster.agent.owners import ALLOW_ALL
from tests.cluster.agent.test_agent import answered, ping

pytestmark = pytest.mark.cluster

REPAIRED_SECONDS = 60.0
BLOCK = 0xC111A
RETURN_ALL = "1,6 0 0 4294967295,"


@asynccontextmanager
async def told(node: Node, part: str) -> AsyncIterator[list[ForeignChange]]:
    """Yield what the bus hears of one part; there must be something by the end of the block, within
    seconds.
    """
    heard: list[ForeignChange] = []
    first = asyncio.Event()

    async def hear(message: Any) -> None:
        change = msgspec.json.decode(message.data, type=ForeignChange)
        if change.part.startswith(part):
            heard.append(change)
            first.set()

    async with connect_bus(BusConfig(urls=(node.nats.url,)), cluster="test", name="hears") as bus:
        await bus.subscribe(bus.subjects.drift(), hear)
        await bus.flush()
        yield heard
        async with asyncio.timeout(REPAIRED_SECONDS):
            await first.wait()


async def two_pods(node: Node) -> tuple[dict[str, Any], dict[str, Any]]:
    await node.start(drift_seconds=0.5)
    web, db = await node.add_pod("web"), await node.add_pod("db")
    for pod in (web, db):
        node.owners.resolve(pod["identity"], ALLOW_ALL)
    await until(reaches(web, db))
    return web, db


def reaches(web: dict[str, Any], db: dict[str, Any]) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return await asyncio.to_thread(answered, ping(web, db, "-c1", "-W0.2")) == 1

    return check


async def unreachable(web: dict[str, Any], db: dict[str, Any]) -> bool:
    return not await reaches(web, db)()


async def test_the_ipcache_is_repaired(node: Node) -> None:
    web, db = await two_pods(node)
    async with told(node, "ipcache") as heard:
        with Map(get_pinned(node.pins / maps.IPCACHE.name), maps.IPCACHE) as ipcache:
            before = dict(ipcache.items())
            own = IpcacheKey(128, packed(number(db["ipv4"])))
            ipcache.update(own, IpcacheEntry(4242, 0, 0, 0))
            ipcache.update(IpcacheKey(96 + 24, packed(number("198.51.100.0"))), IpcacheEntry(1, 0, 0, 0))
    assert heard[0].count == 2
    assert {text.partition(" ")[0] for text in heard[0].found} == {f"{db['ipv4']}/32", "198.51.100.0/24"}
    assert any("4242" in text for text in heard[0].found)
    with Map(get_pinned(node.pins / maps.IPCACHE.name), maps.IPCACHE) as ipcache:
        assert dict(ipcache.items()) == before
    assert await reaches(web, db)()


async def test_an_ipcache_that_somebody_emptied_is_filled_again(node: Node) -> None:
    await two_pods(node)
    async with told(node, "ipcache") as heard:
        with Map(get_pinned(node.pins / maps.IPCACHE.name), maps.IPCACHE) as ipcache:
            before = dict(ipcache.items())
            ipcache.delete_many(before)
    assert heard[0].count == len(before)
    with Map(get_pinned(node.pins / maps.IPCACHE.name), maps.IPCACHE) as ipcache:
        assert dict(ipcache.items()) == before


async def test_the_non_masquerade_cidrs_are_repaired(node: Node) -> None:
    await node.start(drift_seconds=0.5, masquerade_exclude="192.0.2.0/24")
    office, foreign = (IpcacheKey(96 + 24, packed(number(network))) for network in ("192.0.2.0", "198.51.100.0"))
    with Map(get_pinned(node.pins / maps.NON_MASQUERADE.name), maps.NON_MASQUERADE) as cidrs:
        async with told(node, "non-masquerade") as heard:
            cidrs.delete(office)
            cidrs.update(foreign, 1)
        assert set(heard[0].found) == {
            "192.0.2.0/24 was missing, not there",
            "198.51.100.0/24 was there, not missing",
        }
        await wait_until(lambda: (cidrs.lookup(office), cidrs.lookup(foreign)) == (1, None))


async def test_the_endpoints_are_repaired(node: Node) -> None:
    web, db = await two_pods(node)
    async with told(node, "endpoints") as heard:
        with Map(get_pinned(node.pins / maps.ENDPOINTS.name), maps.ENDPOINTS) as endpoints:
            before = dict(endpoints.items())
            for key, value in before.items():
                if value.id == db["id"]:
                    endpoints.delete(key)
                else:
                    endpoints.update(key, value._replace(flags=1))
    assert heard[0].count == 2
    assert any("missing" in text for text in heard[0].found)
    with Map(get_pinned(node.pins / maps.ENDPOINTS.name), maps.ENDPOINTS) as endpoints:
        assert dict(endpoints.items()) == before
    assert await reaches(web, db)()


async def test_the_gateways_are_repaired(node: Node) -> None:
    web, _ = await two_pods(node)
    async with told(node, "gateways") as heard:
        with Map(get_pinned(node.pins / maps.GATEWAYS.name), maps.GATEWAYS) as gateways:
            before = dict(gateways.items())
            gateways.update(GatewayFamily.IPV4, packed(number("198.51.100.1")))
    assert heard[0].found == (f"198.51.100.1 was there, not {web['gateway']}",)
    with Map(get_pinned(node.pins / maps.GATEWAYS.name), maps.GATEWAYS) as gateways:
        assert dict(gateways.items()) == before


@pytest.mark.parametrize(
    ("offset", "value", "said"),
    [(0, 1 << 33, "its version was"), (16, 1, "it had a next version"), (20, 4242, "its identity was 4242")],
)
async def test_the_words_of_subjects_are_repaired(node: Node, offset: int, value: int, said: str) -> None:
    """The audit bit, a pending switch, the identity."""
    web, db = await two_pods(node)
    async with told(node, "policy of slot 1") as heard:
        with (
            Map(get_pinned(node.pins / maps.POLICY_SLOTS.name), maps.POLICY_SLOTS) as table,
            ArrayMemory(table) as words,
        ):
            if offset:
                words.store_u32(1, value, offset)
            else:
                words.store_u64(1, words.load_u64(1) | value)
    assert heard[0].found[0].startswith(said)
    with Map(get_pinned(node.pins / maps.POLICY_SLOTS.name), maps.POLICY_SLOTS) as table, ArrayMemory(table) as words:
        assert not words.load_u64(1) & 1 << 33
        assert words.load_u32(1, 16) == 0
        assert words.load_u32(1, 20) != 4242
    assert await reaches(web, db)()


async def test_a_pods_link_without_its_programs_gets_them_back(node: Node) -> None:
    web, db = await two_pods(node)
    node.owners.resolve(db["identity"], {})
    await until(lambda: unreachable(web, db))
    async with told(node, "programs") as heard:
        for pod in (web, db):
            command(f"tc qdisc del dev {pod['host_interface']} clsact")
    assert "none" in heard[0].found[0]
    assert await unreachable(web, db)
    node.owners.resolve(db["identity"], ALLOW_ALL)
    await until(reaches(web, db))


async def test_a_filter_that_was_removed_comes_back_and_a_strangers_goes(node: Node) -> None:
    web, db = await two_pods(node)
    async with told(node, "programs") as heard:
        stranger = f"tc filter add block {BLOCK} prio 7 protocol all bpf classid 1:1 bytecode"
        subprocess.run([*stranger.split(), RETURN_ALL], check=True, capture_output=True)
        command(f"tc filter del block {BLOCK} prio 1")
    await until(reaches(web, db))
    assert any("priority 7" in text for change in heard for text in change.found)
    filters = subprocess.run(
        ["tc", "-j", "filter", "show", "block", str(BLOCK)], check=True, capture_output=True, text=True
    )
    assert {each["pref"] for each in json.loads(filters.stdout)} == {1}


async def test_a_link_of_the_overlay_that_was_removed_comes_back(node: Node) -> None:
    await two_pods(node)
    pins = sorted(node.pins.glob("link_*"))
    if not pins:
        pytest.skip("no TCX in this kernel")
    async with told(node, "programs") as heard:
        pins[0].unlink()
    assert heard[0].found
    assert sorted(node.pins.glob("link_*")) == pins


async def test_nothing_is_reported_of_what_the_agent_changes_itself(node: Node) -> None:
    await two_pods(node)
    for round_ in range(20):
        pod = await node.add_pod(f"fleeting{round_}")
        await node.call("endpoint-delete", id=pod["id"])
    await asyncio.sleep(1.5)
    (loop,) = [each for each in (await node.call("status"))["loops"] if each["name"] == "drift"]
    assert (loop["failures"], loop["last_error"]) == (0, "")
