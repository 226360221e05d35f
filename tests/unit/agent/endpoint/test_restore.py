"""Restarts: what a former agent left is kept, made anew, or removed."""

from msgspec.structs import replace

from cilia.contracts.agent import EndpointReference
from services.agent.address import number
from services.agent.errors import LinkFailed
from tests.fakes.clock import in_fake_time
from tests.unit.agent.endpoint.node import WEB, Node


@in_fake_time
async def test_what_is_in_force_stays_in_force() -> None:
    node = Node()
    pod = await node.create()
    before = dict(node.kernel.links), dict(node.kernel.table)
    node.start()
    node.kernel.journal.clear()
    await node.restore()
    assert (node.kernel.links, node.kernel.table) == before
    assert node.kernel.journal == ["enter web"]
    assert list(node.endpoints) == [pod]
    assert (await node.create("next")).ipv4 == "10.1.0.3"


@in_fake_time
async def test_after_a_reboot_links_are_made_anew() -> None:
    node = Node()
    pod = await node.create()
    node.kernel.links.clear()
    node.start()
    await node.restore()
    assert node.kernel.links.keys() == {"lxc1"}
    (restored,) = node.endpoints
    assert restored == replace(pod, ifindex=node.kernel.links["lxc1"])
    assert node.records.pods[pod.id] == restored


@in_fake_time
async def test_another_device_of_the_same_name_is_not_taken_for_the_pods() -> None:
    node = Node()
    pod = await node.create()
    node.kernel.links["lxc1"] = pod.ifindex + 1
    node.start()
    node.kernel.journal.clear()
    await node.restore()
    assert node.kernel.journal[0] == "link lxc1"


@in_fake_time
async def test_a_pod_that_is_gone_leaves_nothing() -> None:
    node = Node()
    await node.create()
    node.kernel.links.clear()
    node.kernel.fail = {"link": LinkFailed("creation", "eth0", "/run/netns/web", "gone")}
    node.start()
    await node.restore()
    assert node.is_clean()


@in_fake_time
async def test_a_deletion_that_an_agent_began_is_brought_to_its_end_by_the_next() -> None:
    node = Node()
    await node.create()
    node.services.withdraws = False
    await node.lifecycle.delete(EndpointReference(namespace="default", name="web"))
    node.start()
    await node.restore()
    assert node.is_clean()


@in_fake_time
async def test_a_creation_that_an_agent_died_in_is_kept_out_of_the_kernels_tables() -> None:
    node = Node()
    pod = await node.create()
    node.records.save(replace(pod, identity=0))
    node.start()
    await node.restore()
    assert not node.kernel.table
    assert len(node.endpoints) == 1


@in_fake_time
async def test_what_no_record_names_is_removed_from_cilia_endpoints() -> None:
    node = Node()
    pod = await node.create()
    node.kernel.table[number("10.1.0.9")] = (WEB, 100, False)
    node.start()
    await node.restore()
    assert node.kernel.table.keys() == {number(pod.ipv4)}


@in_fake_time
async def test_an_address_whose_block_is_not_granted_yet_is_not_given_to_another() -> None:
    node = Node()
    pod = await node.create()
    node.start("10.9.0.0/28")
    await node.restore()
    node.pool.add_block("10.1.0.0/28")
    others = [await node.create(f"other{each}") for each in range(20)]
    assert pod.ipv4 not in {other.ipv4 for other in others}
