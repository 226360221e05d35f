"""Ports of masqueraded flows, kept apart from those of the node's own connections.

The kernel tells nobody when net.ipv4.ip_local_port_range changes, so it is read now and then.
Between a change and the next look a connection of the node may get the port of a mapping: its first
packet takes that away from the mapping (bpf/lib/nat.h).
"""

import asyncio
import logging
from collections.abc import Callable

from services.agent.loader.nat_ports import NatPortsWord, local_ports, masquerade_ports

log = logging.getLogger(__name__)


class NatPortRange:
    """Follows the node's setting. ``run`` goes to the supervisor."""

    def __init__(
        self, word: NatPortsWord, look_seconds: float, read: Callable[[], tuple[int, int]] = local_ports
    ) -> None:
        self._word = word
        self._look_seconds = look_seconds
        self._read = read

    def close(self) -> None:
        """Give the map back."""
        self._word.close()

    async def run(self) -> None:
        """Look now and then until cancelled."""
        while True:
            await asyncio.sleep(self._look_seconds)
            self.look()

    def look(self) -> None:
        """Have the programs take what the node leaves over now."""
        try:
            local = self._read()
        except (OSError, ValueError) as error:
            log.warning("the node's range of ports can't be read, the last one stands: %s", error)
            return
        first, last = masquerade_ports(*local)
        if self._word.follow(first, last):
            log.info("the node's own ports are %d to %d now; masqueraded flows take %d to %d", *local, first, last)
