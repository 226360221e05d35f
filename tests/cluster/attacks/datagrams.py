"""Datagrams of attackers beside honest ones."""

import asyncio
import socket

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

from laboratory.machine import Machine

PORT = 7000
HONEST, FORGED = b"honest", b"forged"
ONE_CLIENT = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: one-client, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress: [{fromEndpoints: [{matchLabels: {app: client}}]}]
"""
HOST_ONLY = ONE_CLIENT.replace("fromEndpoints: [{matchLabels: {app: client}}]", "fromEntities: [host]").replace(
    "one-client", "host-only"
)


def datagram(source: str, target: str, payload: bytes = FORGED, *, sport: int = 40000, dport: int = PORT) -> Packet:
    head = IPv6(src=source, dst=target) if ":" in source else IP(src=source, dst=target)
    return head / UDP(sport=sport, dport=dport) / Raw(payload)


async def heard(server: socket.socket) -> bytes:
    """Return what came, after what an attacker sent before the honest sender did."""
    received, _ = await asyncio.get_running_loop().sock_recvfrom(server, 64)
    return received


async def only_honest(server: socket.socket, sender: Machine, address: str) -> None:
    """Have an honest datagram arrive, and before it no forged one.

    The two take different ways in, so a forged one gets its time first.
    """
    await asyncio.sleep(0.5)
    with sender.open_socket(socket.SOCK_DGRAM, to=address) as opened:
        opened.sendto(HONEST, (address, PORT))
        async with asyncio.timeout(30):
            assert await heard(server) == HONEST
