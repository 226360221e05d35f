"""Rows under a new lease: all are written again, and retried while they are refused."""

import asyncio

from cilia.contracts.agent import EndpointReference
from cilia.contracts.ids import Identity, LeaseId
from cilia.errors import Unavailable
from services.agent.endpoint.republication import AT_ONCE
from tests.fakes.clock import in_fake_time, now
from tests.unit.agent.endpoint.node import Node


async def pods(node: Node, count: int) -> None:
    node.start("10.1.0.0/24")
    for each in range(count):
        await node.create(f"web{each}", labels={"app": "web"})
    node.services.rows.clear()
    node.services.current_lease = LeaseId(8)
    node.kernel.journal.clear()


async def until_published(node: Node) -> None:
    running = asyncio.create_task(node.republication.run())
    for _ in range(1000):
        await asyncio.sleep(0.1)
        if not node.republication.pending:
            break
    running.cancel()


@in_fake_time
async def test_every_row_is_written_under_the_new_lease() -> None:
    node = Node()
    await pods(node, 3)
    node.republication.publish_all()
    assert node.republication.pending == 3
    await until_published(node)
    assert len(node.services.rows) == 3
    assert sorted(node.kernel.journal) == [f"publish web{each} under 8" for each in range(3)]


@in_fake_time
async def test_not_more_than_a_few_rows_are_under_way_at_once() -> None:
    node = Node()
    await pods(node, AT_ONCE + 8)
    node.kernel.slow = {"publish": 1}
    node.republication.publish_all()
    await until_published(node)
    assert 2 <= now() < 3


@in_fake_time
async def test_a_row_that_is_refused_is_tried_again_with_growing_pauses() -> None:
    node = Node()
    await pods(node, 1)
    node.kernel.fail = {"publish": Unavailable("identity", "no answer")}
    node.republication.publish_all()
    running = asyncio.create_task(node.republication.run())
    await asyncio.sleep(30)
    tried = len(node.kernel.journal)
    assert 6 <= tried <= 16
    assert node.republication.pending == 1
    node.kernel.fail = {}
    await asyncio.sleep(10)
    assert node.republication.pending == 0
    running.cancel()


@in_fake_time
async def test_a_pod_that_went_meanwhile_is_not_published() -> None:
    node = Node()
    await pods(node, 2)
    node.republication.publish_all()
    await node.lifecycle.delete(EndpointReference(namespace="default", name="web0"))
    assert node.republication.pending == 1
    await until_published(node)
    assert [row.name for row in node.services.rows.values()] == ["web1"]


@in_fake_time
async def test_an_identity_that_was_given_anew_is_adopted() -> None:
    node = Node()
    await pods(node, 1)
    (labels,) = node.services.identities
    node.services.identities[labels] = Identity(999)
    node.republication.publish_all()
    await until_published(node)
    (pod,) = node.endpoints
    assert pod.identity == 999
    assert node.kernel.policies == {Identity(999): True}
    assert {entry[0] for entry in node.kernel.table.values()} == {999}
