"""Maps of the agent that are full: nothing is half done, nothing passes that would not pass with
room.
"""

import pytest

from tests.cluster.agent.node import Node, until
from tests.cluster.agent.test_agent import answered, devices, ping

pytestmark = pytest.mark.cluster


async def test_a_pod_for_which_there_is_no_room_is_refused_and_leaves_nothing(node: Node) -> None:
    await node.start(maps_endpoints=2)
    web, db = await node.add_pod("web"), await node.add_pod("db")
    before = devices()
    problem = await node.add_pod("late")
    assert problem["code"] == "exhausted"
    assert "cilia_endpoints" in problem["message"]
    assert devices() == before
    assert {pod["id"] for pod in (await node.call("endpoint-list"))["endpoints"]} == {web["id"], db["id"]}
    assert answered(ping(web, db, "-c3", "-i0.05", "-W1")) == 3
    await node.call("endpoint-delete", namespace="default", name="db")
    late = await node.add_pod("late")
    assert answered(ping(web, late, "-c3", "-i0.05", "-W1")) == 3


async def test_an_ipcache_without_room_is_reported_and_filled_once_there_is_room(node: Node) -> None:
    await node.start()
    web = await node.add_pod("web")
    room = 1 + len((await node.call("map-get", name="cilia_ipcache"))["entries"])
    node.kill()
    await node.start(maps_ipcache=room)
    others = [await node.add_pod(f"more{number}") for number in range(3)]

    async def reason() -> str:
        loops = (await node.call("status"))["loops"]
        return str(next(loop["last_error"] for loop in loops if loop["name"] == "ipcache"))

    assert "cilia_ipcache: update" in await until(reason)
    for other in others:
        await node.call("endpoint-delete", namespace="default", name=other["name"])
    await until(reason, gone=True)
    held = [key["address"] for key, _ in (await node.call("map-get", name="cilia_ipcache"))["entries"]]
    assert web["ipv4"] in held
