"""Lives of endpoints over parts that fail to order: whatever fails, nothing is left of the pod."""

import asyncio

import pytest
from msgspec.structs import replace

from cilia.contracts.agent import AuditEndpoint, EndpointReference, RelabelEndpoint
from cilia.contracts.ids import EndpointId
from cilia.contracts.labels import BadLabel
from cilia.contracts.messages import Problem, ProblemCode
from cilia.datapath.errors import MapFull
from cilia.errors import Refused, Unavailable
from cilia.netns import NoNetworkNamespace, netns_inode
from services.agent.address import number
from services.agent.errors import (
    InterfaceTaken,
    LinkFailed,
    NameTaken,
    NoSlot,
    PolicyDoesNotFit,
    PoolExhausted,
    TooSlow,
    UnknownEndpoint,
)
from tests.fakes.clock import in_fake_time, now, settle
from tests.unit.agent.endpoint.node import DB, NETNS, WEB, Node, request

REFUSED = Refused(Problem(ProblemCode.CONFLICT, "no"))


def named(name: str) -> EndpointReference:
    return EndpointReference(namespace="default", name=name)


@in_fake_time
async def test_a_created_pod_is_linked_published_entered_and_under_its_policy() -> None:
    node = Node()
    pod = await node.create()
    assert (pod.ipv4, pod.gateway, pod.identity, pod.host_interface) == ("10.1.0.2", "10.1.0.1", WEB, "lxc1")
    assert pod.ifindex == node.kernel.links["lxc1"]
    assert node.kernel.table == {number(pod.ipv4): (WEB, 100, False)}
    assert node.kernel.ipcache == {number(pod.ipv4): WEB}
    assert node.records.pods == {pod.id: pod}
    assert node.kernel.policies == {WEB: True}


@in_fake_time
async def test_link_and_row_are_made_side_by_side_and_the_policy_is_awaited_last() -> None:
    node = Node()
    node.kernel.slow = {"link": 3, "publish": 3}
    await node.create()
    assert now() == 3
    assert node.kernel.journal[:2] == ["link lxc1", "publish web for 7"]
    assert node.kernel.journal[2:] == ["enter web", "policy 300@11", "known 300@11"]


@in_fake_time
async def test_the_record_is_on_disk_before_the_kernel_is_touched() -> None:
    node = Node()
    node.kernel.slow = {"link": 1}
    creating = asyncio.create_task(node.create())
    await settle()
    assert node.kernel.links == {}
    assert [pod.name for pod in node.records.pods.values()] == ["web"]
    await creating


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("link", InterfaceTaken("eth0", "/run/netns/web")),
        ("link", LinkFailed("creation", "eth0", "", "no")),
        ("link", NoNetworkNamespace("/run/netns/web", "gone")),
        ("publish", REFUSED),
        ("publish", Unavailable("identity", "no answer")),
        ("table", MapFull("cilia_endpoints", 16, 7, key=b"", done=0)),
        ("policy", PolicyDoesNotFit(WEB, 100, 10)),
        ("policy", NoSlot(WEB, 4095)),
    ],
)
@in_fake_time
async def test_whatever_step_fails_nothing_is_left_and_the_caller_hears_why(step: str, error: Exception) -> None:
    node = Node()
    node.kernel.fail = {step: error}
    with pytest.raises(type(error)) as caught:
        await node.create()
    assert caught.value is error
    assert node.is_clean()


@in_fake_time
async def test_a_link_that_fails_later_than_the_row_is_published_takes_the_row_along() -> None:
    node = Node()
    node.kernel.slow = {"link": 2}
    node.kernel.fail = {"link": LinkFailed("creation", "eth0", "", "no")}
    with pytest.raises(LinkFailed):
        await node.create()
    assert node.is_clean()


@pytest.mark.parametrize(
    ("step", "pending"),
    [("link", "its link and its identity"), ("publish", "its link and its identity"), ("policy", "identity 300")],
)
@in_fake_time
async def test_a_creation_that_takes_too_long_says_which_step_and_leaves_nothing(step: str, pending: str) -> None:
    node = Node()
    node.kernel.slow = {step: 60}
    with pytest.raises(TooSlow, match=f"{pending} took longer than 5 s"):
        await node.create(timeout_seconds=5)
    assert node.is_clean()
    assert now() == 5


@in_fake_time
async def test_a_creation_whose_caller_hangs_up_leaves_nothing() -> None:
    node = Node()
    node.kernel.slow = {"policy": 60}
    creating = asyncio.create_task(node.create())
    await settle()
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    assert node.is_clean()


@in_fake_time
async def test_an_unregistered_node_refuses_within_the_callers_time_and_says_why() -> None:
    node = Node()
    node.services.registered.clear()
    with pytest.raises(Unavailable, match=r"not registered \(ipam doesn't answer\)"):
        await node.create(timeout_seconds=2)
    assert node.is_clean()
    assert now() == 2


@in_fake_time
async def test_a_pod_that_is_not_there_costs_no_address_and_no_identity() -> None:
    node = Node()
    with pytest.raises(NoNetworkNamespace):
        await node.create(netns="/run/netns/nowhere")
    assert node.is_clean()
    assert node.kernel.journal == []


@in_fake_time
async def test_a_bad_label_is_refused_before_anything_happens() -> None:
    node = Node()
    with pytest.raises(BadLabel):
        await node.create(labels={"app": "web;db"})
    assert node.kernel.journal == []


@in_fake_time
async def test_without_an_address_there_is_no_pod() -> None:
    node = Node()
    node.start("10.1.0.0/30")
    await node.create("one")
    with pytest.raises(PoolExhausted):
        await node.create("two")
    assert [pod.name for pod in node.endpoints] == ["one"]


@in_fake_time
async def test_a_full_disk_gives_the_address_back() -> None:
    node = Node()
    node.records.error = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space"):
        await node.create()
    assert node.is_clean()
    node.records.error = None
    assert (await node.create()).name == "web"


@in_fake_time
async def test_the_same_request_again_gives_the_same_pod() -> None:
    node = Node()
    first = await node.create()
    links = dict(node.kernel.links)
    assert await node.create() == first
    assert node.kernel.links == links


@in_fake_time
async def test_the_same_request_again_waits_for_the_policy_that_the_first_waits_for() -> None:
    node = Node()
    pod = await node.create()
    node.kernel.policies[pod.identity] = False
    node.kernel.slow = {"policy": 2}
    await node.create()
    assert now() == 2
    node.kernel.policies[pod.identity] = False
    with pytest.raises(TimeoutError):
        await node.create(timeout_seconds=1)


@pytest.mark.parametrize("other", [{"netns": "/proc/thread-self/ns/net"}, {"interface": "eth1"}])
@in_fake_time
async def test_the_name_of_another_pod_is_taken(other: dict[str, str]) -> None:
    node = Node()
    await node.create()
    with pytest.raises(NameTaken, match="default/web already exists"):
        await node.create(**other)


@in_fake_time
async def test_two_creations_of_one_pod_follow_each_other_and_make_one() -> None:
    node = Node()
    node.kernel.slow = {"link": 1}
    first, second = await asyncio.gather(node.create(), node.create())
    assert first == second
    assert len(node.endpoints) == 1


@in_fake_time
async def test_creations_of_different_pods_go_side_by_side() -> None:
    node = Node()
    node.kernel.slow = {"link": 1}
    pods = await asyncio.gather(*(node.create(f"web{each}") for each in range(5)))
    assert now() == 1
    assert len({pod.ipv4 for pod in pods} | {pod.host_interface for pod in pods}) == 10


@in_fake_time
async def test_a_deleted_pod_leaves_nothing_and_its_flows_are_purged() -> None:
    node = Node()
    pod = await node.create()
    node.kernel.journal.clear()
    await node.lifecycle.delete(EndpointReference(id=pod.id))
    assert node.is_clean()
    assert node.purged == [number(pod.ipv4)]
    assert node.kernel.journal == ["leave", "unlink lxc1", "withdraw 1"]


@in_fake_time
async def test_deleting_a_pod_that_is_gone_changes_nothing() -> None:
    node = Node()
    await node.lifecycle.delete(EndpointReference(id=EndpointId(9)))
    await node.lifecycle.delete(named("web"))
    assert node.kernel.journal == []


@in_fake_time
async def test_two_deletions_at_once_are_one() -> None:
    node = Node()
    await node.create()
    node.kernel.slow = {"unlink": 1}
    await asyncio.gather(node.lifecycle.delete(named("web")), node.lifecycle.delete(named("web")))
    assert node.is_clean()
    assert node.kernel.journal.count("withdraw 1") == 1


@in_fake_time
async def test_a_deletion_during_a_creation_comes_after_it() -> None:
    node = Node()
    node.kernel.slow = {"policy": 1}
    creating = asyncio.create_task(node.create())
    await settle()
    await node.lifecycle.delete(named("web"))
    assert (await creating).name == "web"
    assert node.is_clean()


@in_fake_time
async def test_while_identity_is_away_a_deletion_cleans_the_kernel_and_answers_after_two_seconds() -> None:
    node = Node()
    pod = await node.create()
    node.services.withdraws = False
    await node.lifecycle.delete(named("web"))
    assert now() == 2
    assert not node.kernel.links
    assert not node.kernel.table
    assert node.records.pods[pod.id].disconnecting
    assert node.pool.used == 1
    node.services.answer_withdrawals()
    assert node.is_clean()


@in_fake_time
async def test_the_name_is_not_free_before_the_former_row_is_withdrawn() -> None:
    node = Node()
    await node.create()
    node.services.withdraws = False
    await node.lifecycle.delete(named("web"))
    with pytest.raises(Unavailable, match="the row of the former default/web is not withdrawn yet"):
        await node.create()
    node.services.answer_withdrawals()
    assert (await node.create()).id == 2


@in_fake_time
async def test_the_policy_of_an_identity_stays_until_its_last_pod_goes() -> None:
    node = Node()
    await node.create("one", labels={"app": "web"})
    await node.create("two", labels={"app": "web"})
    await node.lifecycle.delete(named("one"))
    assert node.kernel.policies == {WEB: True}
    await node.lifecycle.delete(named("two"))
    assert node.kernel.policies == {}


@in_fake_time
async def test_a_relabelled_pod_moves_once_the_policy_of_its_new_identity_is_in_force() -> None:
    node = Node()
    pod = await node.create()
    node.kernel.journal.clear()
    relabelled = await node.lifecycle.relabel(RelabelEndpoint(named("web"), {"app": "db"}))
    assert (relabelled.id, relabelled.identity) == (pod.id, DB)
    assert node.kernel.journal == ["publish web for 7", "policy 301@11", "known 301@11", "enter web"]
    assert node.kernel.policies == {DB: True}
    assert node.kernel.table == {number(pod.ipv4): (DB, 101, False)}


@in_fake_time
async def test_a_relabelling_that_is_refused_changes_nothing() -> None:
    node = Node()
    pod = await node.create()
    node.kernel.fail = {"publish": REFUSED}
    with pytest.raises(Refused):
        await node.lifecycle.relabel(RelabelEndpoint(named("web"), {"app": "db"}))
    assert node.endpoints.find(named("web")) == pod
    with pytest.raises(UnknownEndpoint):
        await node.lifecycle.relabel(RelabelEndpoint(named("db"), {}))


@in_fake_time
async def test_a_pod_that_goes_cannot_be_relabelled_back_into_the_kernel() -> None:
    node = Node()
    await node.create()
    node.services.withdraws = False
    await node.lifecycle.delete(named("web"))
    with pytest.raises(UnknownEndpoint):
        await node.lifecycle.relabel(RelabelEndpoint(named("web"), {"app": "db"}))
    assert not node.kernel.table


@in_fake_time
async def test_an_audited_pod_is_kept_so_entered_so_and_its_flows_are_decided_anew() -> None:
    node = Node()
    pod = await node.create()
    audited = await node.lifecycle.audit(AuditEndpoint(named("web"), audit=True))
    assert audited.audit
    assert node.records.pods[pod.id].audit
    assert node.kernel.table == {number(pod.ipv4): (WEB, 100, True)}
    assert node.renewed == [number(pod.ipv4)]


@in_fake_time
async def test_the_audit_of_a_pod_that_goes_does_not_bring_it_back() -> None:
    node = Node()
    await node.create()
    node.services.withdraws = False
    await node.lifecycle.delete(named("web"))
    await node.lifecycle.audit(AuditEndpoint(named("web"), audit=True))
    assert not node.kernel.table


def test_a_request_has_defaults_that_a_test_may_override() -> None:
    assert request("db", interface="eth1").interface == "eth1"


@in_fake_time
async def test_a_pod_is_ready_once_the_nodes_whose_policy_names_it_know_its_identity() -> None:
    node = Node()
    node.kernel.slow = {"known": 2, "policy": 1}
    await node.create()
    assert now() == 2
    await node.lifecycle.delete(named("web"))


@in_fake_time
async def test_a_pod_whose_link_is_gone_is_replaced_by_who_asks_for_its_name() -> None:
    node = Node()
    former = await node.create()
    node.kernel.links.clear()
    node.services.withdraws = True
    fresh = await node.create(netns="/proc/self/ns/net")
    assert fresh.id != former.id
    assert node.kernel.links == {fresh.host_interface: fresh.ifindex}
    assert set(node.kernel.table) == set(fresh.numbers)
    assert list(node.records.pods) == [fresh.id]


@in_fake_time
async def test_a_pod_whose_link_alone_is_gone_gets_it_again() -> None:
    node = Node()
    pod = await node.create()
    assert not await node.lifecycle.recover(pod.id)
    node.kernel.links.clear()
    assert await node.lifecycle.recover(pod.id)
    again = node.endpoints.get(pod.id)
    assert again is not None
    assert (again.ipv4, again.identity) == (pod.ipv4, pod.identity)
    assert node.kernel.links == {pod.host_interface: again.ifindex}
    assert node.kernel.policies == {WEB: True}


@in_fake_time
async def test_a_pod_that_went_with_its_namespace_is_taken_down() -> None:
    node = Node()
    pod = await node.create()
    node.endpoints.put(replace(pod, netns="/run/netns/nowhere"))
    node.kernel.links.clear()
    assert await node.lifecycle.recover(pod.id)
    assert node.endpoints.get(pod.id) is None
    assert (node.kernel.table, node.kernel.ipcache, node.records.pods) == ({}, {}, {})
    assert not await node.lifecycle.recover(pod.id)


@in_fake_time
async def test_another_namespace_under_the_path_of_a_former_one_is_another_pod() -> None:
    node = Node()
    former = await node.create()
    node.endpoints.put(replace(former, netns_inode=1))
    fresh = await node.create()
    assert fresh.id != former.id
    assert fresh.netns_inode == netns_inode(NETNS)
