"""Acknowledgements of policy: tell the cluster what is in force here, once for each hand-over."""

import logging
import time
from collections.abc import Callable, Mapping

import msgspec

from cilia.bus import Bus
from cilia.contracts.ids import Identity, NodeName, Revision
from cilia.contracts.realisation import Acknowledgement
from cilia.errors import Unavailable

log = logging.getLogger(__name__)


class Acknowledgements:
    """Publishes acknowledgements; one that is lost is made good by the next of the same identity.

    Args:
        count_endpoints: Returns how many endpoints of an identity live here.
        capacity: Number of entries that the node's policy map holds at most.
    """

    def __init__(self, bus: Bus, node: NodeName, count_endpoints: Callable[[Identity], int], capacity: int) -> None:
        self._bus = bus
        self._node = node
        self._count_endpoints = count_endpoints
        self._capacity = capacity

    async def publish(self, sequences: Mapping[Identity, Revision]) -> None:
        """Say at which sequences identities are realised."""
        if not self._bus.connected:
            return
        concerned = sum(map(self._count_endpoints, sequences))
        message = Acknowledgement(self._node, dict(sequences), concerned, time.time_ns(), self._capacity)
        try:
            await self._bus.publish(self._bus.subjects.ack(self._node), msgspec.json.encode(message))
        except Unavailable as error:
            log.debug("not acknowledged: %s", error)
