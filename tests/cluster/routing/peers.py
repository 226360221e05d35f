"""Pods, hosts and an external host of a two-node cluster, and what reaches what."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from laboratory.attempts import reaches_icmp, reaches_tcp, reaches_udp
from laboratory.cluster import LocalCluster
from laboratory.echo_servers import echoing
from laboratory.machine import Machine
from laboratory.pod import Pod

PORT = 7000
WAYS = tuple(f"{protocol} over IPv{version}" for version in (4, 6) for protocol in ("tcp", "udp", "icmp"))
ALL, NONE = frozenset(WAYS), frozenset[str]()
PATIENT_SECONDS = 0.9
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER = 10, 23
PMTUDISC_DO = 2


@dataclass(frozen=True)
class Peers:
    """Peers of the pod ``client``: ``near`` is a pod of its node, ``far`` one of the other."""

    client: Pod
    near: Pod
    far: Pod
    host: Machine
    remote_host: Machine
    external_host: Machine

    def others(self) -> dict[str, Machine]:
        """Return whom the client may try to reach."""
        return {
            "pod, same node": self.near,
            "pod, across": self.far,
            "host": self.host,
            "remote host": self.remote_host,
            "world": self.external_host,
        }


def make_peers(cluster: LocalCluster) -> Peers:
    """Have three pods on two nodes."""
    return Peers(
        client=cluster.pod("node1", "shop", "client", {"app": "client"}),
        near=cluster.pod("node1", "shop", "near", {"app": "web"}),
        far=cluster.pod("node2", "shop", "far", {"app": "web"}),
        host=cluster.host("node1"),
        remote_host=cluster.host("node2"),
        external_host=cluster.external_host(),
    )


@asynccontextmanager
async def answering(machines: Iterable[Machine]) -> AsyncIterator[None]:
    """Have each machine echo what comes to ``PORT``, by TCP and UDP."""
    async with echoing(machines, tcp=(PORT,), udp=(PORT,)):
        yield


async def reached(client: Machine, server: Machine, seconds: float = PATIENT_SECONDS) -> frozenset[str]:
    """Return the ways by which the client gets an answer."""
    results = await asyncio.gather(
        *(
            attempt
            for address in server.addresses
            for attempt in (
                reaches_tcp(client, address, PORT, seconds=seconds),
                reaches_udp(client, address, PORT, seconds=seconds),
                reaches_icmp(client, address, seconds=seconds),
            )
        )
    )
    return frozenset(way for way, came in zip(WAYS, results, strict=True) if came)


async def reached_by(client: Machine, servers: Mapping[str, Machine]) -> dict[str, frozenset[str]]:
    """Return, for each server by name, the ways by which the client gets an answer."""
    results = await asyncio.gather(*(reached(client, server) for server in servers.values()))
    return dict(zip(servers, results, strict=True))


def unfragmented(client: Machine, address: str, port: int) -> socket.socket:
    """Return a connected UDP socket whose datagrams nobody fragments."""
    opened = client.open_socket(socket.SOCK_DGRAM, to=address)
    level, option = (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER) if ":" in address else (socket.IPPROTO_IP, IP_MTU_DISCOVER)
    opened.setsockopt(level, option, PMTUDISC_DO)
    opened.connect((address, port))
    return opened


def is_native(cluster: LocalCluster) -> bool:
    """Tell whether the underlay routes pods' packets as they are."""
    return "native" in cluster.process("agent/node1").command
