"""The loop that audits programs in their places; see :mod:`services.agent.loader.placement`."""

import asyncio
import logging

from cilia.datapath.errors import DatapathError
from services.agent.endpoint.store import Endpoints
from services.agent.loader.placement import Placement
from services.agent.metrics.drift import DriftReports
from services.agent.netlink.worker import Worker

log = logging.getLogger(__name__)


class ProgramDrift:
    """Looks every few seconds. ``run`` goes to the supervisor."""

    def __init__(
        self, placement: Placement, endpoints: Endpoints, worker: Worker, faults: DriftReports, *, seconds: float
    ) -> None:
        self._placement = placement
        self._endpoints = endpoints
        self._worker = worker
        self._faults = faults
        self._seconds = seconds

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            try:
                self._faults.report("programs", await self._worker.run(self._look))
            except (DatapathError, OSError) as error:
                log.error("the programs' places can't be audited: %s", error)
            self._faults.counters.looks += 1

    def _look(self) -> list[str]:
        pods = {pod.ifindex: pod.host_interface for pod in self._endpoints if pod.ifindex and not pod.disconnecting}
        return self._placement.audit(pods)
