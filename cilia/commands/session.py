"""Connection of a command to the cluster that it is about."""

import argparse
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, TypeVar

import msgspec
from nats.aio.msg import Msg

from cilia.bus import Bus, BusConfig, connect_bus
from cilia.commands.local_clusters import find_cluster
from cilia.commands.output import note, note_if_slow
from cilia.contracts.agent import EndpointReference
from cilia.contracts.ids import NodeName
from cilia.contracts.messages import Message
from cilia.contracts.policies import PoliciesChanged
from cilia.contracts.tables import ENDPOINTS, NODES, STALE_NODES, Endpoint, Node, Staleness, Table
from cilia.errors import Failure, Unavailable
from cilia.netns import enter
from cilia.table.subscriber import ALL, TableSubscriber

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")

CONNECT_SECONDS = 3.0
READ_SECONDS = 5.0
CHANGE_SECONDS = 60.0
"""Time for a change of policies: some thousand take seconds to read, more on a busy machine."""
_PENDING: Final = 64
"""Messages that may wait to be printed; the bus keeps the next ones, and drops them at last."""


class NoSuchEndpoint(Failure):
    """Error of a name that no endpoint of the cluster has."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no endpoint {name!r}; 'cilia endpoint list' names them")


class Session:
    """A connection to a cluster, for one command."""

    def __init__(self, bus: Bus, cluster: str) -> None:
        self.bus = bus
        self.cluster = cluster

    async def request(self, service: str, call: str, message: Message, reply: type[R], *, timeout: float = 10.0) -> R:
        """Ask any replica of a service."""
        return await self.bus.request(self.bus.subjects.request(service, call), message, reply, timeout=timeout)

    async def change(self, call: str, message: Message) -> PoliciesChanged:
        """Ask the policy service to ``apply``, ``sync``, ``delete`` or ``rollback`` policies."""
        with note_if_slow("waiting for the policy service"):
            return await self.request("policy", call, message, PoliciesChanged, timeout=CHANGE_SECONDS)

    async def ask_node(self, node: NodeName, call: str, message: Message, reply: type[R], timeout: float = 15.0) -> R:
        """Ask a node's agent."""
        return await self.bus.request(self.bus.subjects.node(node, call), message, reply, timeout=timeout)

    async def listen(self, subject: str, kind: type[R]) -> AsyncIterator[R]:
        """Yield the messages on a subject as they are published, until the caller has enough."""
        arrived: asyncio.Queue[R] = asyncio.Queue(_PENDING)
        decoder = msgspec.json.Decoder(kind)

        async def deliver(message: Msg) -> None:
            await arrived.put(decoder.decode(message.data))

        await self.bus.subscribe(subject, deliver)
        await self.bus.flush()
        note("listening; ^C ends")
        while True:
            yield await arrived.get()

    async def read(self, table: Table[K, V]) -> dict[K, V]:
        """Return a table as it is now.

        Raises:
            Unavailable: Its owner doesn't answer.
        """
        subscriber = TableSubscriber(self.bus, table, ALL, clock=asyncio.get_running_loop().time)
        running = asyncio.create_task(subscriber.run(), name=f"read {table.name}")
        try:
            async with asyncio.timeout(READ_SECONDS):
                with note_if_slow(f"waiting for the table of {table.name}"):
                    await subscriber.wait_complete()
        except TimeoutError:
            raise Unavailable(table.owner, f"no snapshot of {table.name} within {READ_SECONDS:g} s") from None
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return {key: row for shard in subscriber.shards for key, row in subscriber.rows(shard).items()}

    async def nodes(self) -> list[Node]:
        """Return all nodes, by name."""
        return sorted((await self.read(NODES)).values(), key=lambda node: node.name)

    async def stale_nodes(self) -> dict[NodeName, Staleness]:
        """Return the nodes whose agents are silent."""
        return await self.read(STALE_NODES)

    async def endpoints(self) -> list[Endpoint]:
        """Return all endpoints, by namespace and name."""
        rows = (await self.read(ENDPOINTS)).values()
        return sorted(rows, key=lambda endpoint: (endpoint.namespace, endpoint.name, endpoint.node))

    async def find_endpoint(self, name: str) -> tuple[NodeName, EndpointReference]:
        """Find an endpoint by ``namespace/name``, ``name`` (in default) or ``node/id``.

        Raises:
            NoSuchEndpoint: There is none.
        """
        prefix, _, last = name.rpartition("/")
        for endpoint in await self.endpoints():
            if (endpoint.namespace, endpoint.name) == (prefix or "default", last) or (
                endpoint.node == prefix and str(endpoint.id) == last
            ):
                return endpoint.node, EndpointReference(id=endpoint.id)
        raise NoSuchEndpoint(name)


@asynccontextmanager
async def open_session(arguments: argparse.Namespace) -> AsyncIterator[Session]:
    """Connect to the cluster that the arguments mean: ``--nats URL`` anywhere, or a local one by
    name.
    """
    if arguments.nats:
        cluster, url = arguments.cluster or "local", arguments.nats
    else:
        local = find_cluster(arguments.cluster)
        enter(local.hub_path)
        cluster, url = local.name, local.nats
    config = BusConfig(urls=(url,), connect_seconds=CONNECT_SECONDS)
    async with AsyncExitStack() as stack:
        with note_if_slow(f"connecting to {url}"):
            bus = await stack.enter_async_context(connect_bus(config, cluster=cluster, name="cilia-cli"))
        yield Session(bus, cluster)


def with_session(
    command: Callable[[argparse.Namespace, Session], Awaitable[int | None]],
) -> Callable[[argparse.Namespace], int]:
    """Make a command of a coroutine function that needs a session."""

    async def run(arguments: argparse.Namespace) -> int:
        async with open_session(arguments) as session:
            return await command(arguments, session) or 0

    return lambda arguments: asyncio.run(run(arguments))
