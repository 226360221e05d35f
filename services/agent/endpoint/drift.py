"""Drift of the pods' map: entries of cilia_endpoints that somebody else changed."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from cilia.abi.structs import Endpoint as EndpointValue
from services.agent.address import text
from services.agent.drift.loop import differences, read_undisturbed
from services.agent.drift.reporter import Drift


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
