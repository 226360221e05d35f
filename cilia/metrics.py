"""Metrics: counters are plain ints in dataclasses, so that counting costs 0.06 us.

A part of a process counts in a dataclass of its own, made with :func:`counter`; ``Metrics`` knows
them all and shows them to Prometheus as text and to OpenTelemetry through observable callbacks.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation
    from prometheus_client.metrics_core import Metric


def percentile(values: Sequence[float], share: int) -> float:
    """Return the smallest of the sorted ``values`` that ``share`` percent of them don't exceed; 0
    if there are none.
    """
    return values[max(math.ceil(len(values) * share / 100) - 1, 0)] if values else 0.0


class Counters(Protocol):
    """A dataclass whose int fields only grow."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


def counter(help_text: str) -> int:
    """Make a field that counts: ``lost: int = counter("events that found no room")``."""
    return field(default=0, metadata={"help": help_text})


@dataclass(frozen=True, slots=True)
class _Series:
    name: str
    help: str
    labels: Mapping[str, str]
    read: Callable[[], float]
    grows: bool


class Metrics:
    """All that a process counts and measures."""

    def __init__(self) -> None:
        self._series: list[_Series] = []

    def count(self, part: str, counters: Counters, **labels: str) -> None:
        """Show each int of ``counters`` as ``cilia_<part>_<field>_total``; call before the
        exporters start.
        """
        for each in fields(counters):
            read = _reader(counters, each.name)
            text = str(each.metadata.get("help", each.name.replace("_", " ")))
            self._series.append(_Series(f"cilia_{part}_{each.name}", text, labels, read, grows=True))

    def gauge(self, name: str, help_text: str, read: Callable[[], float], **labels: str) -> None:
        """Show what ``read`` returns, at each asking, as ``cilia_<name>``; the unit stands last in
        the name.
        """
        self._series.append(_Series(f"cilia_{name}", help_text, labels, read, grows=False))

    def prometheus(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(self._families()))
        return generate_latest(registry)

    def observe_with(self, meter: "Meter") -> None:
        """Let OpenTelemetry read all metrics whenever it exports."""
        for name, members in self._by_name().items():
            make = meter.create_observable_counter if members[0].grows else meter.create_observable_gauge
            make(name, callbacks=[_observer(members)], description=members[0].help)

    def _by_name(self) -> dict[str, list[_Series]]:
        names: dict[str, list[_Series]] = {}
        for series in self._series:
            names.setdefault(series.name, []).append(series)
        return names

    def _families(self) -> "Iterator[Metric]":
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for name, members in self._by_name().items():
            labels = tuple(members[0].labels)
            family = (CounterMetricFamily if members[0].grows else GaugeMetricFamily)(
                name, members[0].help, labels=labels
            )
            for series in members:
                family.add_metric([series.labels[label] for label in labels], series.read())
            yield family


@dataclass(frozen=True, slots=True)
class _Collector:
    families: "Iterable[Metric]"

    def collect(self) -> "Iterable[Metric]":
        return self.families


def _reader(counters: Counters, name: str) -> Callable[[], float]:
    return lambda: float(getattr(counters, name))


def _observer(members: list[_Series]) -> "Callable[[CallbackOptions], Iterable[Observation]]":
    def observe(_options: "CallbackOptions") -> "Iterable[Observation]":
        from opentelemetry.metrics import Observation

        return [Observation(series.read(), dict(series.labels)) for series in members]

    return observe
