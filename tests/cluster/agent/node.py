"""A node of its own for a test: a namespace with a real bus, stand-ins of the owners, and a real
agent process.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from cilia.bus import BusConfig, connect_bus
from cilia.netns import inside
from laboratory.forked import Forked, fork
from laboratory.servers import Server, start_nats
from laboratory.wait import wait_until, wait_while
from tests.cluster.agent.owners import Owners

ROOT = Path(__file__).parents[3]
UNDERLAY = "192.0.2.1"
START_SECONDS = 150
"""An emulated processor takes 15 s to verify the programs for Linux 6.1 (tools.kernels)."""


def command(text: str) -> None:
    subprocess.run(text.split(), check=True, capture_output=True)


class Node:
    """Node of a test, which runs inside the node's namespace itself."""

    def __init__(self, tag: str, directory: Path, owners: Owners, nats: Server) -> None:
        self.tag = tag
        self.directory = directory
        self.owners = owners
        self.nats = nats
        self.pins = Path("/sys/fs/bpf") / tag
        self.socket = directory / "agent.sock"
        self._pods: list[str] = []
        self._agent: Forked | None = None

    def add_netns(self) -> str:
        """Make a network namespace for a pod and return its path."""
        name = f"{self.tag}p{len(self._pods)}"
        command(f"ip netns add {name}")
        self._pods.append(name)
        return f"/run/netns/{name}"

    async def start(self, **others: object) -> float:
        """Start the agent, with other settings if given; return the seconds until it answered."""
        began = time.perf_counter()
        self._agent = fork("services.agent.__main__", self._flags(others))
        async with asyncio.timeout(START_SECONDS):
            while True:
                assert self._agent.poll() is None, "the agent ended"
                try:
                    await self.call("status")
                    return time.perf_counter() - began
                except OSError:
                    await asyncio.sleep(0.01)

    def refused(self, **others: object) -> str:
        """Start an agent that can't work; return what it said when it ended."""
        ended = subprocess.run(
            [sys.executable, "-m", "services.agent", *self._flags(others)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        assert ended.returncode, "the agent ended well"
        return ended.stderr

    def _flags(self, others: Mapping[str, object]) -> list[str]:
        settings = {
            "node": "node1",
            "ipv4": UNDERLAY,
            "cluster": "test",
            "state-directory": self.directory / "state",
            "socket": self.socket,
            "pin-directory": self.pins,
            "nats-urls": self.nats.url,
            **{name.replace("_", "-"): value for name, value in others.items()},
        }
        return [text for name, value in settings.items() for text in (f"--{name}", str(value))]

    def kill(self) -> None:
        """End the agent without a warning."""
        self.stop(signal.SIGKILL)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int | None:
        """End the agent; return its exit code."""
        if self._agent is None:
            return None
        self._agent.send_signal(number)
        code = self._agent.wait(60)
        self._agent = None
        return code

    async def call(self, call: str, /, **arguments: Any) -> Any:
        """Make a call on the socket and return what it gives, or the problem."""
        reader, writer = await asyncio.open_unix_connection(self.socket)
        try:
            writer.write(json.dumps({"call": call, "arguments": arguments}).encode() + b"\n")
            async with asyncio.timeout(START_SECONDS):
                reply = json.loads(await reader.readline())
            return reply.get("problem") or reply["ok"]
        finally:
            writer.close()
            await writer.wait_closed()

    async def add_pod(self, name: str, **labels: str) -> dict[str, Any]:
        """Connect a pod in a fresh namespace."""
        answer: dict[str, Any] = await self.call(
            "endpoint-create",
            namespace="default",
            name=name,
            netns=self.add_netns(),
            labels=labels,
            timeout_seconds=START_SECONDS,
        )
        return answer

    def close(self) -> None:
        """Leave nothing behind."""
        if self._agent is not None:
            self.kill()
        for name in self._pods:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        shutil.rmtree(self.pins, ignore_errors=True)


@asynccontextmanager
async def monitor(node: Node, kind: str) -> AsyncIterator[asyncio.StreamReader]:
    """Give the flows of a kind that the agent publishes from now on, a line of JSON each."""
    reader = asyncio.StreamReader()

    async def deliver(message: Any) -> None:
        for flow in json.loads(message.data)["flows"]:
            if flow["kind"] == kind:
                reader.feed_data(json.dumps(flow).encode() + b"\n")

    bus = node.owners.bus
    subscription = await bus.subscribe(bus.subjects.flow("node1"), deliver)
    await bus.flush()
    try:
        yield reader
    finally:
        await bus.unsubscribe(subscription)


async def until(look: Callable[[], Awaitable[Any]], *, gone: bool = False) -> Any:
    """Look until there is something, or nothing any more; return it."""
    return await (wait_while(look) if gone else wait_until(look))


@contextmanager
def node_namespace(tag: str) -> Iterator[None]:
    """Run the block's thread in a fresh network namespace."""
    command(f"ip netns add {tag}")
    try:
        with inside(f"/run/netns/{tag}"):
            command("ip link set lo up")
            command(f"ip address add {UNDERLAY}/32 dev lo")
            yield
    finally:
        command(f"ip netns del {tag}")


@asynccontextmanager
async def running_node(directory: Path) -> AsyncIterator[Node]:
    """Yield a node whose agent is not started yet."""
    tag = f"cag{os.getpid()}"
    with node_namespace(tag), start_nats(directory) as nats:
        async with connect_bus(BusConfig(urls=(nats.url,)), cluster="test", name="owners") as bus:
            owners = Owners(bus)
            answering = asyncio.create_task(owners.run())
            node = Node(tag, directory, owners, nats)
            try:
                yield node
            finally:
                node.close()
                answering.cancel()
                await asyncio.gather(answering, return_exceptions=True)
