"""Agents and other services on a bus in memory: they answer at once, as a test has it."""

from collections.abc import Callable
from typing import TypeVar

import msgspec
from nats.aio.msg import Msg

from cilia.contracts.agent import EndpointPolicy, EndpointState, LocalEndpoint, LocalEndpoints, PolicyRule
from cilia.contracts.ids import EndpointId, Identity, NodeName
from cilia.contracts.messages import Message, Problem, Reply
from tests.fakes.bus import FakeBus

R = TypeVar("R", bound=Message)


async def answer(bus: FakeBus, subject: str, kind: type[R], reply: Callable[[R], Message | Problem]) -> None:
    """Answer calls of a subject."""

    async def deliver(message: Msg) -> None:
        found = reply(msgspec.json.decode(message.data, type=kind))
        whole: Reply[Message] = Reply(problem=found) if isinstance(found, Problem) else Reply(ok=found)
        await bus.publish(message.reply, msgspec.json.encode(whole))

    await bus.subscribe(subject, deliver)


def local(identity: Identity, revision: int, node: NodeName) -> LocalEndpoints:
    """Return what an agent says of its one endpoint, which has heard its shard at a revision."""
    return LocalEndpoints(
        (
            LocalEndpoint(
                id=EndpointId(7),
                namespace="x",
                name="web",
                node=node,
                state=EndpointState.READY,
                identity=identity,
                labels=("k8s:app=web",),
                ipv4="10.0.0.7",
                gateway="",
                mac="",
                interface="eth0",
                host_interface="",
                ifindex=1,
                netns="",
                policy_revision=revision,
            ),
        )
    )


def in_kernel(identity: Identity, *rules: PolicyRule) -> EndpointPolicy:
    """Return what an agent finds in the kernel for its one endpoint."""
    return EndpointPolicy(EndpointId(7), identity, 0, rules)
