"""Drift of pods: entries of cilia_endpoints that somebody else changed, and links that are gone."""

from collections.abc import Awaitable, Callable, Iterable
from socket import if_nameindex
from typing import Any, Protocol

from cilia.abi.structs import Endpoint as EndpointValue
from cilia.contracts.ids import EndpointId
from services.agent.address import text
from services.agent.drift.loop import differences, read_undisturbed
from services.agent.drift.reporter import Drift
from services.agent.endpoint.store import Endpoints, Pod


class EndpointTable(Protocol):
    """Kernel table of pods, such as :class:`~services.agent.endpoint.maps.EndpointMap`."""

    @property
    def entries(self) -> dict[int, EndpointValue]:
        """Entries as written."""
        ...

    @property
    def writes(self) -> int:
        """Number that grows with each change by ourselves."""
        ...

    def read(self) -> dict[int, EndpointValue]:
        """Return the entries in the kernel."""
        ...

    def put(self, address: int, value: EndpointValue, /) -> None:
        """Write an entry."""
        ...

    def remove(self, address: int, /) -> None:
        """Remove an entry."""
        ...

    def renew(self, address: int, /) -> None:
        """Have the flows of an address decided anew."""
        ...


class EndpointDrift:
    """Looks at cilia_endpoints, and mends what differs.

    Args:
        in_thread: Runs a function that reads in a thread of its own.
    """

    def __init__(self, table: EndpointTable, in_thread: Callable[..., Awaitable[Any]]) -> None:
        self._table = table
        self._in_thread = in_thread

    async def look(self) -> list[Drift]:
        """Compare once; return what was wrong."""
        table = self._table
        found = await read_undisturbed(lambda: self._in_thread(table.read), lambda: table.writes)
        wrong = {} if found is None else differences(found, table.entries)
        for address, (_, written) in wrong.items():
            if written is None:
                table.remove(address)
            else:
                table.put(address, written)
            table.renew(address)
        described = (
            f"{text(address)} was {present or 'missing'}, not {written or 'missing'}"
            for address, (present, written) in wrong.items()
        )
        return [Drift("endpoints", tuple(described))]


class LinkDrift:
    """Looks for pods whose link is gone, by itself or with their network namespace.

    Args:
        recover: Makes a pod's link anew, or takes the pod down; tells whether something was wrong.
        devices: Returns the devices of the node, as (index, name).
    """

    def __init__(
        self,
        endpoints: Endpoints,
        recover: Callable[[EndpointId], Awaitable[bool]],
        devices: Callable[[], Iterable[tuple[int, str]]] = if_nameindex,
    ) -> None:
        self._endpoints = endpoints
        self._recover = recover
        self._devices = devices

    async def look(self) -> list[Drift]:
        """Compare once; return which links were missing."""
        present = set(self._devices())
        missing = [
            pod for pod in self._endpoints if is_linked(pod) and (pod.ifindex, pod.host_interface) not in present
        ]
        told = [f"{pod.full_name} had lost {pod.host_interface}" for pod in missing if await self._recover(pod.id)]
        return [Drift("links", tuple(told))]


def is_linked(pod: Pod) -> bool:
    """Tell whether a pod is to have a link."""
    return bool(pod.ifindex) and not pod.disconnecting
