"""Drift of the programs: attachments that are gone, and filters of others in front of ours."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from services.agent.drift.reporter import Drift


class Placed(Protocol):
    """Programs in their places, such as :class:`~services.agent.loader.programs.Programs`."""

    def repair(self, pods: Mapping[int, str], /) -> list[str]:
        """Look at every place and repair; return in words what was wrong."""
        ...


class ProgramDrift:
    """Looks at the places of programs, and has mended what differs.

    Args:
        pods: Returns the devices of pods: index -> name.
        in_thread: Runs a function in the thread of links, since it blocks on RTNL.
    """

    def __init__(
        self, placed: Placed, pods: Callable[[], Mapping[int, str]], in_thread: Callable[..., Awaitable[Any]]
    ) -> None:
        self._placed = placed
        self._pods = pods
        self._in_thread = in_thread

    async def look(self) -> list[Drift]:
        """Compare once; return what was wrong."""
        return [Drift("programs", tuple(await self._in_thread(self._placed.repair, self._pods())))]
