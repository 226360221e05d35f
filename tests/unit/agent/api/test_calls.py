"""Calls: what the agent answers about its endpoints, policies, prefixes and maps."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, cast

import pytest

from cilia.contracts.agent import AwaitPrefixes, EndpointReference, EndpointState, MapQuery
from cilia.contracts.ids import Identity, NodeName, Revision
from cilia.contracts.messages import Empty, ProblemCode
from cilia.contracts.tables import PolicyEntry, PolicyKey
from cilia.errors import Refused
from services.agent.api.calls import Api
from services.agent.endpoint.room import EndpointRoom
from services.agent.ipcache.reconciler import IpcacheReconciler
from services.agent.policy.reconciler import PolicyReconciler
from tests.fakes.clock import in_fake_time, now
from tests.unit.agent.endpoint.node import WEB, Node, request
from tests.unit.agent.maps import FakeObjects

KEY, ENTRY = PolicyKey(False, Identity(301), 6, 80, 16), PolicyEntry(False, 5, 9)


class FakePolicy:
    def __init__(self, node: Node) -> None:
        self._node = node
        self.realised: Mapping[Identity, Revision] = {WEB: Revision(12)}

    def in_force(self, identity: Identity) -> bool:
        return self._node.kernel.in_force(identity)

    def read(self, identity: Identity) -> dict[PolicyKey, PolicyEntry]:
        return {KEY: ENTRY} if identity == WEB else {}


class FakeIpcache:
    def __init__(self) -> None:
        self.waits = 1.0

    async def wait_prefixes(self, _cidrs: Iterable[str]) -> None:
        await asyncio.sleep(self.waits)


class Setting:
    """The API over a node in memory."""

    def __init__(self) -> None:
        self.node, self.ipcache = Node(), FakeIpcache()
        api = Api(
            NodeName("node1"),
            endpoints=cast(EndpointRoom, self.node),
            policy=cast(PolicyReconciler, FakePolicy(self.node)),
            ipcache=cast(IpcacheReconciler, self.ipcache),
            objects=FakeObjects().loaded,
            status=cast(Any, None),
        )
        self.calls = api.calls()

    async def call(self, name: str, message: Any = None) -> Any:
        kind, answer = self.calls[name]
        asked = Empty() if message is None else message
        assert isinstance(asked, kind)
        return await answer(asked)

    async def refused(self, name: str, message: Any) -> tuple[ProblemCode, str]:
        with pytest.raises(Refused) as caught:
            await self.call(name, message)
        return caught.value.problem.code, caught.value.problem.field


def named(name: str) -> EndpointReference:
    return EndpointReference(namespace="default", name=name)


@in_fake_time
async def test_a_created_endpoint_is_described_with_its_node_state_and_revision() -> None:
    setting = Setting()
    made = await setting.call("endpoint-create", request("web"))
    assert (made.node, made.state, made.identity, made.policy_revision) == ("node1", EndpointState.READY, WEB, 12)
    assert (made.ipv4, made.gateway, made.host_interface) == ("10.1.0.2", "10.1.0.1", "lxc1")
    assert await setting.call("endpoint-get", named("web")) == made
    assert (await setting.call("endpoint-list")).endpoints == (made,)


@in_fake_time
async def test_an_impossible_request_is_refused_before_anything_happens() -> None:
    setting = Setting()
    assert await setting.refused("endpoint-create", request("Web")) == (ProblemCode.INVALID, "name")
    assert await setting.refused("endpoint-create", request(netns="")) == (ProblemCode.INVALID, "netns")
    assert await setting.refused("endpoint-create", request(timeout_seconds=0)) == (
        ProblemCode.INVALID,
        "timeout_seconds",
    )
    assert setting.node.kernel.journal == []


@in_fake_time
async def test_nodes_that_dont_know_a_pods_identity_yet_are_named() -> None:
    setting = Setting()
    created = await setting.call("endpoint-create", request("web"))
    assert (created.known_everywhere, created.unaware_nodes) == (True, ())
    setting.node.services.unaware[created.identity] = (NodeName("node2"),)
    told = await setting.call("endpoint-get", EndpointReference(id=created.id))
    assert (told.known_everywhere, told.unaware_nodes) == (False, ("node2",))


@in_fake_time
async def test_the_state_follows_the_policy() -> None:
    setting = Setting()
    await setting.call("endpoint-create", request("web"))
    setting.node.kernel.policies[WEB] = False
    assert (await setting.call("endpoint-get", named("web"))).state is EndpointState.WAITING_FOR_POLICY
    setting.node.services.withdraws = False
    await setting.call("endpoint-delete", named("web"))
    assert (await setting.call("endpoint-get", named("web"))).state is EndpointState.DISCONNECTING


@in_fake_time
async def test_the_policy_of_an_endpoint_is_what_the_kernel_holds() -> None:
    setting = Setting()
    await setting.call("endpoint-create", request("web"))
    found = await setting.call("policy-get", named("web"))
    assert (found.identity, found.revision) == (WEB, 12)
    assert [(rule.key, rule.entry) for rule in found.rules] == [(KEY, ENTRY)]


@pytest.mark.parametrize("call", ["endpoint-get", "policy-get"])
@in_fake_time
async def test_an_endpoint_that_there_is_not_is_named(call: str) -> None:
    assert await Setting().refused(call, named("db")) == (ProblemCode.NOT_FOUND, "name")


@in_fake_time
async def test_deleting_what_is_gone_is_fine() -> None:
    assert await Setting().call("endpoint-delete", named("db")) == Empty()


@in_fake_time
async def test_prefixes_are_awaited_within_the_callers_time() -> None:
    setting = Setting()
    assert await setting.call("prefixes-wait", AwaitPrefixes(("10.0.0.0/8",), 2.0)) == Empty()
    setting.ipcache.waits = 60
    refused = await setting.refused("prefixes-wait", AwaitPrefixes(("10.0.0.0/8",), 2.0))
    assert refused == (ProblemCode.UNAVAILABLE, "timeout_seconds")
    assert now() == 3


@in_fake_time
async def test_a_map_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    setting = Setting()
    with pytest.raises(Refused, match=r"no map 'cilia_x'; there are cilia_.*cilia_ct4") as caught:
        await setting.call("map-get", MapQuery("cilia_x"))
    assert (caught.value.problem.code, caught.value.problem.field) == (ProblemCode.NOT_FOUND, "name")
