"""Sizes of the maps in the kernel, and how full they are, as an agent's metrics tell it."""

import asyncio
import re
from contextlib import suppress
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from cilia.contracts.ids import Identity
from cilia.contracts.tables import PolicyEntry, PolicyKey
from laboratory.wait import wait_until
from services.agent.metrics.pressure import LAYOUTS
from tests.cluster.agent.node import Node

pytestmark = pytest.mark.cluster


LISTEN = "127.0.0.1:9099"


async def pressures(**wanted: float) -> dict[str, float]:
    """Return map -> pressure, once it is as wanted."""

    async def look() -> dict[str, float]:
        with suppress(URLError):
            text = (await asyncio.to_thread(urlopen, f"http://{LISTEN}/metrics")).read().decode()
            found = re.findall(r'^cilia_map_pressure_ratio\{map="(\w+)"\} (\S+)$', text, re.M)
            seen = {name: float(value) for name, value in found}
            if wanted.items() <= seen.items():
                return seen
        return {}

    return await wait_until(look)


async def test_each_map_that_can_fill_tells_how_full_it_is(node: Node) -> None:
    await node.start(telemetry_listen=LISTEN, maps_endpoints=8, maps_policy=64)
    seen = await pressures(cilia_endpoints=0, cilia_policy=0)
    assert seen.keys() == {layout.name for layout in LAYOUTS} | {"cilia_policy_slots"}
    web = await node.add_pod("web", app="web")
    rules = {PolicyKey(False, Identity(0), 6, number, 16): PolicyEntry(False, 1) for number in range(1, 17)}
    node.owners.resolve(web["identity"], rules)
    seen = await pressures(cilia_policy=16 / 64)
    held = len((await node.call("map-get", name="cilia_endpoints"))["entries"])
    assert (seen["cilia_endpoints"], seen["cilia_policy"]) == (held / 8, 16 / 64)
    assert held


async def test_maps_of_flows_get_their_size_from_memory_within_the_limits(node: Node) -> None:
    await node.start(maps_least_entries=2048, maps_most_entries=4096, maps_nat=1000)
    sizes = {each["name"]: each["max_entries"] for each in (await node.call("map-list"))["maps"]}
    assert (sizes["cilia_ct4"], sizes["cilia_ct6"], sizes["cilia_nat"]) == (4096, 4096, 1000)
