"""Revocation of a flow while its server goes on sending: what its client sends arrives no more, in
whichever way it was revoked, and the flow goes on when it is allowed again.

Policy lets the server begin whatever it likes towards the client, which so would be its answer.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress

import pytest

from laboratory.cluster import LocalCluster
from laboratory.machine import Machine
from laboratory.pod import Pod
from laboratory.policies import Policies
from laboratory.pool import Configuration
from laboratory.wait import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

PORT = 7000
TICK_SECONDS = 0.01
LIMIT_SECONDS = 60
BEFORE, PROBE, DENIED, AFTER = b"before", b"probe", b"denied", b"after"
NOBODY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: nobody, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress: [{fromEndpoints: [{matchLabels: {app: friend}}]}]
"""
NOWHERE = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: nowhere, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress: [{toEndpoints: [{matchLabels: {app: friend}}]}]
"""
REFUSED = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: refused, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress: [{}]
  ingressDeny: [{fromEndpoints: [{matchLabels: {app: client}}]}]
"""
CLIENTS_ONLY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: clients-only, namespace: shop}
spec:
  endpointSelector: {matchLabels: {role: server}}
  ingress: [{fromEndpoints: [{matchLabels: {app: client}}]}]
"""
OTHER_PORTS = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: other-ports, namespace: shop}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress: [{ports: [{port: 1, endPort: 6999, protocol: TCP}, {port: 7001, protocol: UDP}]}]
"""


class TalkingServer:
    """Server that sends to everyone who has ever sent to it, without end, and keeps what came."""

    def __init__(self, machine: Machine) -> None:
        self.received: dict[str, bytes] = {"tcp": b"", "udp": b""}
        self._machine = machine
        self._datagrams = machine.listen(PORT, socket.SOCK_DGRAM)
        self._peers: set[tuple[str, int]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def talking(self) -> AsyncIterator[None]:
        """Serve for the block."""
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._serve, sock=self._machine.listen(PORT))
        loop.add_reader(self._datagrams, self._take_datagram)
        talk = asyncio.create_task(self._talk())
        try:
            yield
        finally:
            talk.cancel()
            loop.remove_reader(self._datagrams)
            server.close()
            for writer in self._writers:
                writer.transport.abort()
            self._machine.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                self.received["tcp"] += data

    def _take_datagram(self) -> None:
        data, peer = self._datagrams.recvfrom(65536)
        self.received["udp"] += data
        self._peers.add(peer)

    async def _talk(self) -> None:
        while True:
            for writer in self._writers:
                writer.write(b".")
            for peer in self._peers:
                with suppress(OSError):
                    self._datagrams.sendto(b".", peer)
            await asyncio.sleep(TICK_SECONDS)


class Flow:
    """A client's end of a flow; ``heard`` counts what its server says."""

    def __init__(self, client: Machine, address: str, kind: socket.SocketKind) -> None:
        self.address = address
        self.socket = client.open_socket(kind, to=address)
        self.heard = 0

    async def begin(self) -> None:
        await asyncio.get_running_loop().sock_connect(self.socket, (self.address, PORT))

    def say(self, text: bytes) -> None:
        with suppress(OSError):
            self.socket.send(text)

    def listen(self) -> None:
        with suppress(OSError):
            while data := self.socket.recv(65536):
                self.heard += len(data)


@pytest.fixture(scope="module", params=["overlay", "native"])
def configuration(request: pytest.FixtureRequest) -> Configuration:
    return Configuration(nodes=2, routing=request.param)


@pytest.fixture
def client(cluster: LocalCluster) -> Pod:
    return cluster.pod("node1", "shop", "client", {"app": "client"})


@pytest.fixture(params=["node1", "node2"], ids=["same node", "across"])
def server(cluster: LocalCluster, request: pytest.FixtureRequest) -> Pod:
    return cluster.pod(request.param, "shop", "server", {"app": "server", "role": "server"})


@pytest.fixture
def plain(policies: Policies) -> Iterator[Policies]:
    """Policies without a mode or an audit afterwards."""
    yield policies
    for setting in (("mode", "default"), ("audit", "off")):
        run = policies.cilia("policy", *setting, "--wait")
        assert run.returncode == 0, run.stderr


Undo = Callable[[], None]
Revoke = Callable[[Policies, Pod, Pod], Undo]


def at_ingress(policies: Policies, client: Pod, server: Pod) -> Undo:
    policies.apply(NOBODY)
    return lambda: policies.delete("CiliumNetworkPolicy/shop/nobody")


def at_egress(policies: Policies, client: Pod, server: Pod) -> Undo:
    policies.apply(NOWHERE)
    return lambda: policies.delete("CiliumNetworkPolicy/shop/nowhere")


def at_both_ends(policies: Policies, client: Pod, server: Pod) -> Undo:
    policies.apply(f"{NOBODY}---{NOWHERE}")
    return lambda: policies.delete("CiliumNetworkPolicy/shop/nobody", "CiliumNetworkPolicy/shop/nowhere")


def by_a_deny_rule(policies: Policies, client: Pod, server: Pod) -> Undo:
    policies.apply(REFUSED)
    return lambda: policies.delete("CiliumNetworkPolicy/shop/refused")


def by_ports(policies: Policies, client: Pod, server: Pod) -> Undo:
    policies.apply(OTHER_PORTS)
    return lambda: policies.delete("NetworkPolicy/shop/other-ports")


def by_the_clients_labels(policies: Policies, client: Pod, server: Pod) -> Undo:
    policies.apply(CLIENTS_ONLY)
    client.relabel({"app": "former-client"})
    return lambda: client.relabel({"app": "client"})


def by_the_servers_labels(policies: Policies, client: Pod, server: Pod) -> Undo:
    policies.apply(NOBODY.replace("app: server", "app: former-server"))
    server.relabel({"app": "former-server", "role": "server"})
    return lambda: server.relabel({"app": "server", "role": "server"})


def by_the_end_of_an_audit(policies: Policies, client: Pod, server: Pod) -> Undo:
    set_to(policies, "audit", "on")
    policies.apply(NOBODY)
    set_to(policies, "audit", "off")
    return lambda: set_to(policies, "audit", "on")


def by_the_mode(policies: Policies, client: Pod, server: Pod) -> Undo:
    set_to(policies, "mode", "always")
    return lambda: set_to(policies, "mode", "default")


def set_to(policies: Policies, setting: str, value: str) -> None:
    run = policies.cilia("policy", setting, value, "--wait")
    assert run.returncode == 0, run.stderr


WAYS: list[Revoke] = [
    at_ingress,
    at_egress,
    at_both_ends,
    by_a_deny_rule,
    by_ports,
    by_the_clients_labels,
    by_the_servers_labels,
    by_the_end_of_an_audit,
    by_the_mode,
]


def count(server: TalkingServer, text: bytes) -> int:
    return sum(data.count(text) for data in server.received.values())


async def say_until_heard(flows: list[Flow], server: TalkingServer, text: bytes) -> None:
    """Have each flow's text arrive, however often it takes."""

    def is_heard() -> bool:
        for number, flow in enumerate(flows):
            flow.say(b"<%b %d>" % (text, number))
            flow.listen()
        return all(count(server, b"<%b %d>" % (text, number)) for number in range(len(flows)))

    await wait_until(is_heard, seconds=LIMIT_SECONDS)


async def until_denied(flows: list[Flow], server: TalkingServer) -> None:
    """Wait until nothing that is said arrives: nodes hear of other labels after a moment."""

    async def is_denied() -> bool:
        before = count(server, PROBE)
        for flow in flows:
            flow.say(PROBE)
            flow.listen()
        await asyncio.sleep(30 * TICK_SECONDS)
        return count(server, PROBE) == before

    await wait_until(is_denied, seconds=LIMIT_SECONDS)


@pytest.mark.parametrize("revoke", WAYS)
async def test_what_a_revoked_client_sends_arrives_no_more_until_it_is_allowed_again(
    plain: Policies, client: Pod, server: Pod, revoke: Revoke
) -> None:
    talker = TalkingServer(server)
    flows = [
        Flow(client, address, kind) for address in server.addresses for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    ]
    async with talker.talking():
        try:
            await asyncio.gather(*(flow.begin() for flow in flows))
            await say_until_heard(flows, talker, BEFORE)
            undo = await asyncio.to_thread(revoke, plain, client, server)
            await until_denied(flows, talker)
            for _ in range(20):
                for flow in flows:
                    flow.say(DENIED)
                    flow.listen()
                await asyncio.sleep(5 * TICK_SECONDS)
            assert count(talker, DENIED) == 0
            await asyncio.to_thread(undo)
            await say_until_heard(flows, talker, AFTER)
        finally:
            for flow in flows:
                flow.socket.close()
