"""The loop that audits programs in their places; see :mod:`services.agent.loader.programs`."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from cilia.datapath.errors import DatapathError
from services.agent.loader.programs import Programs
from services.agent.metrics.drift import DriftReports
from services.agent.netlink.worker import Worker

log = logging.getLogger(__name__)


class ProgramDrift:
    """Looks every few seconds. ``run`` goes to the supervisor."""

    def __init__(
        self,
        programs: Programs,
        worker: Worker,
        faults: DriftReports,
        *,
        pods: Callable[[], Mapping[int, str]],
        seconds: float,
    ) -> None:
        self._programs = programs
        self._pods = pods
        self._worker = worker
        self._faults = faults
        self._seconds = seconds

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            try:
                self._faults.report("programs", await self._worker.run(self._programs.repair, self._pods()))
            except (DatapathError, OSError) as error:
                log.error("the programs' places can't be audited: %s", error)
            self._faults.counters.looks += 1
