"""Rows of a node that has registered: only those that differ are written, and retried while they
are refused; lost addresses and rows without a pod go.
"""

import asyncio

from msgspec.structs import replace

from cilia.contracts.agent import EndpointReference
from cilia.contracts.ids import EndpointId, Identity, Incarnation, NodeName, Revision
from cilia.contracts.tables import ENDPOINTS, Endpoint, EndpointKey
from cilia.errors import Unavailable
from services.agent.endpoint.republication import AT_ONCE, OwnRows
from tests.fakes.clock import end, in_fake_time, now, settle
from tests.unit.agent.endpoint.node import NODE, Node
from tests.unit.agent.tables import MirroredTable

R2 = Revision(2)


async def pods(node: Node, count: int) -> None:
    node.start("10.1.0.0/24")
    for each in range(count):
        await node.create(f"web{each}", labels={"app": "web"})
    node.services.current = Incarnation(8)
    node.kernel.journal.clear()


async def removed(node: Node, count: int) -> None:
    """Have pods on a node that was declared dead, and is back."""
    await pods(node, count)
    node.services.rows.clear()


async def until_published(node: Node) -> None:
    running = asyncio.create_task(node.republication.run())
    for _ in range(1000):
        await asyncio.sleep(0.1)
        if not node.republication.pending:
            break
    await end(running)


@in_fake_time
async def test_rows_that_are_as_they_should_be_are_not_written_again() -> None:
    node = Node()
    await pods(node, 3)
    node.republication.compare(R2)
    assert node.republication.pending == 3
    await until_published(node)
    assert node.kernel.journal == []


@in_fake_time
async def test_only_the_row_that_differs_is_written() -> None:
    node = Node()
    await pods(node, 3)
    wrong, right, missing = node.services.rows
    node.services.rows[wrong] = replace(node.services.rows[wrong], ipv4="10.9.9.9")
    del node.services.rows[missing]
    node.republication.compare(R2)
    await until_published(node)
    assert sorted(node.kernel.journal) == ["publish web0 for 8", "publish web2 for 8"]
    assert set(node.services.rows) == {wrong, right, missing}


@in_fake_time
async def test_every_row_of_a_node_that_was_removed_is_written_for_its_new_incarnation() -> None:
    node = Node()
    await removed(node, 3)
    node.republication.compare(R2)
    await until_published(node)
    assert len(node.services.rows) == 3
    assert sorted(node.kernel.journal) == [f"publish web{each} for 8" for each in range(3)]


@in_fake_time
async def test_what_is_compared_is_no_older_than_the_registration() -> None:
    node = Node()
    await removed(node, 1)
    node.services.mirror_revision = 1
    running = asyncio.create_task(node.republication.run())
    node.republication.compare(R2)
    await asyncio.sleep(100)
    assert node.kernel.journal == []
    node.republication.compare(Revision(3))
    node.services.mirror_revision = 2
    node.services.mirrored.notify()
    await asyncio.sleep(100)
    assert node.kernel.journal == []
    node.services.mirror_revision = 3
    node.services.mirrored.notify()
    await settle()
    assert node.kernel.journal == ["publish web0 for 8"]
    await end(running)


@in_fake_time
async def test_a_row_without_a_pod_goes_and_its_id_is_not_given_to_a_new_pod_before() -> None:
    node = Node()
    await pods(node, 1)
    (known,) = node.services.rows.values()
    orphan = EndpointId(known.id + 1)
    node.services.rows[orphan] = replace(known, id=orphan, name="gone")
    node.services.withdraws = False
    node.republication.compare(R2)
    await until_published(node)
    assert node.kernel.journal == [f"withdraw {orphan}"]
    assert (await node.create("next")).id == orphan + 1
    node.services.answer_withdrawals()
    assert set(node.services.rows) == {known.id, orphan + 1}


@in_fake_time
async def test_pods_of_a_block_that_is_anothers_now_are_disconnected_and_the_others_stay() -> None:
    node = Node()
    node.start("10.1.0.0/30", "10.2.0.0/28")
    first, *others = [await node.create(f"web{each}") for each in range(4)]
    assert first.ipv4 == "10.1.0.2"
    node.pool.hold(["10.2.0.0/28"])
    node.republication.compare(R2)
    await until_published(node)
    left = {pod.ipv4 for pod in node.endpoints}
    assert left == {pod.ipv4 for pod in others} - {node.pool.gateways.ipv4}
    assert "10.1.0.2" not in {row.ipv4 for row in node.services.rows.values()}


@in_fake_time
async def test_not_more_than_a_few_rows_are_under_way_at_once() -> None:
    node = Node()
    await removed(node, AT_ONCE + 8)
    node.kernel.slow = {"publish": 1}
    node.republication.compare(R2)
    await until_published(node)
    assert 2 <= now() < 3


@in_fake_time
async def test_a_row_that_is_refused_is_tried_again_with_growing_pauses() -> None:
    node = Node()
    await removed(node, 1)
    node.kernel.fail = {"publish": Unavailable("identity", "no answer")}
    node.republication.compare(R2)
    running = asyncio.create_task(node.republication.run())
    await asyncio.sleep(30)
    tried = len(node.kernel.journal)
    assert 6 <= tried <= 16
    assert node.republication.pending == 1
    node.kernel.fail = {}
    await asyncio.sleep(10)
    assert node.republication.pending == 0
    await end(running)


@in_fake_time
async def test_a_pod_that_went_meanwhile_is_not_published() -> None:
    node = Node()
    await removed(node, 2)
    node.republication.compare(R2)
    await node.lifecycle.delete(EndpointReference(namespace="default", name="web0"))
    assert node.republication.pending == 1
    await until_published(node)
    assert [row.name for row in node.services.rows.values()] == ["web1"]


@in_fake_time
async def test_an_identity_that_was_given_anew_is_adopted() -> None:
    node = Node()
    await removed(node, 1)
    (labels,) = node.services.identities
    node.services.identities[labels] = Identity(999)
    node.republication.compare(R2)
    await until_published(node)
    (pod,) = node.endpoints
    assert pod.identity == 999
    assert node.kernel.policies == {Identity(999): True}
    assert {entry[0] for entry in node.kernel.table.values()} == {999}


@in_fake_time
async def test_the_rows_of_this_node_are_read_once_its_mirror_is_that_far() -> None:
    table: MirroredTable[EndpointKey, Endpoint] = MirroredTable()
    mine = Endpoint(NODE, EndpointId(7), Identity(300), "10.1.0.2")
    other = replace(mine, node=NodeName("node9"))
    rows = {EndpointKey(row.node, row.id): row for row in (mine, other)}
    reading = asyncio.create_task(OwnRows(table.subscriber, NODE).at_least(R2))
    shard = ENDPOINTS.shard(EndpointKey(NODE, EndpointId(0)))
    table.commit(rows, shard=shard, sequence=1)
    await settle()
    assert not reading.done()
    table.commit({}, shard=shard, sequence=2)
    assert await reading == {7: mine}
