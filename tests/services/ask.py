"""The services' calls, as a test asks them; ``unavailable`` and ``busy`` are asked again for a
while, as agents do.
"""

import asyncio
from typing import TypeVar

from cilia.bus import Bus
from cilia.contracts.identity_service import Allocated, AllocateIdentity, Published, PublishEndpoint
from cilia.contracts.ids import EndpointId, Identity, Incarnation, NamedPort, NodeName
from cilia.contracts.ipam import Registered, RegisterNode
from cilia.contracts.labels import NAMESPACE
from cilia.contracts.messages import Message, ProblemCode
from cilia.contracts.tables import Endpoint
from cilia.errors import Refused, Unavailable

R = TypeVar("R")


async def ask(bus: Bus, service: str, call: str, message: Message, reply_type: type[R], *, seconds: float = 20) -> R:
    """Ask a service; while none answers, again."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await bus.request(bus.subjects.request(service, call), message, reply_type, timeout=2)
            except Unavailable:
                await asyncio.sleep(0.05)
            except Refused as refused:
                if refused.problem.code not in (ProblemCode.BUSY, ProblemCode.UNAVAILABLE):
                    raise
                await asyncio.sleep(0.02)


async def register(bus: Bus, name: str, ipv4: str = "192.0.2.1", **fields: str) -> Registered:
    """Register a node."""
    return await ask(bus, "ipam", "register", RegisterNode(NodeName(name), ipv4, **fields), Registered)  # type: ignore[arg-type]


async def allocate(bus: Bus, holder: str, *labels: str) -> Identity:
    """Allocate the identity of a label set."""
    return (await ask(bus, "identity", "allocate", AllocateIdentity(labels, holder), Allocated)).identity


async def publish(
    bus: Bus, node: str, number: int, incarnation: int, *labels: str, named_ports: tuple[NamedPort, ...] = ()
) -> Published:
    """Publish an endpoint of the namespace that its labels name."""
    address = f"10.244.{number >> 8}.{number & 255}"
    namespace = next((label.partition("=")[2] for label in labels if label.startswith(f"k8s:{NAMESPACE}=")), "")
    row = Endpoint(
        NodeName(node), EndpointId(number), Identity(0), address, namespace=namespace, named_ports=named_ports
    )
    return await ask(bus, "identity", "publish", PublishEndpoint(row, labels, Incarnation(incarnation)), Published)
