"""Packet counters of cilia_metrics: read from the kernel on demand, at most once a second."""

import time
from collections.abc import Callable
from typing import Final

from cilia.abi import maps
from cilia.abi.enums import DropReason, Hook, Outcome
from cilia.abi.structs import Metric
from cilia.datapath.objects import LoadedObject
from cilia.metrics import Metrics

FRESH_SECONDS: Final = 1.0
HOOKS: Final = tuple(hook for hook in Hook if hook is not Hook.HOOKS)


class PacketCounters:
    """Sums of cilia_metrics over all CPUs."""

    def __init__(self, objects: LoadedObject, clock: Callable[[], float] = time.monotonic) -> None:
        self._map = objects.per_cpu_map(maps.METRICS)
        self._clock = clock
        self._read_at = -FRESH_SECONDS
        self._metrics: dict[int, Metric] = {}

    def close(self) -> None:
        """Give the map back."""
        self._map.close()

    def packets(self, outcome: int, hook: Hook) -> int:
        """Return how many packets had an outcome at a hook."""
        return self._get(outcome, hook).packets

    def lost_events(self) -> int:
        """Return how many reports found no room in the ring."""
        return self._unreported(Outcome.LOST_EVENT)

    def limited_events(self) -> int:
        """Return how many reports were above a limit."""
        return self._unreported(Outcome.LIMITED_EVENT)

    def _unreported(self, outcome: Outcome) -> int:
        return sum(self.packets(outcome, hook) for hook in HOOKS)

    def measure(self, metrics: Metrics) -> None:
        """Show packets and bytes forwarded by hook, and drops by reason and hook."""
        for hook in HOOKS:
            where = hook.name.lower().replace("_", "-")
            for unit, read in (("packets", self._reader(hook, "packets")), ("bytes", self._reader(hook, "bytes_"))):
                metrics.gauge(f"forwarded_{unit}", f"{unit} that were forwarded", read, hook=where)
            read = self._reader(hook, "packets", Outcome.AUDITED)
            text = "decisions to drop a packet that an audit let through; later packets of its flow are not counted"
            metrics.gauge("audited_packets", text, read, hook=where)
            for reason in DropReason:
                name = reason.name.lower().replace("_", "-")
                read = self._reader(hook, "packets", reason)
                metrics.gauge("dropped_packets", "packets that were dropped", read, hook=where, reason=name)
        metrics.gauge("lost_events", "reports of packets that found no room in the ring", self.lost_events)
        limited = "reports of packets that were above the limit of their pod, or of the node"
        metrics.gauge("limited_events", limited, self.limited_events)

    def _reader(self, hook: Hook, field: str, outcome: int = Outcome.FORWARDED) -> Callable[[], float]:
        return lambda: float(getattr(self._get(outcome, hook), field))

    def _get(self, outcome: int, hook: Hook) -> Metric:
        now = self._clock()
        if now - self._read_at >= FRESH_SECONDS:
            self._metrics = dict(self._map.items())
            self._read_at = now
        return self._metrics[outcome * Hook.HOOKS + hook]
