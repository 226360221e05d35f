"""Metrics: plain counters, shown to Prometheus and to OpenTelemetry, and percentiles."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.metrics import Metrics, counter, percentile


@dataclass(slots=True)
class Counters:
    lost: int = counter("events that found no room")
    sent: int = 0


class Meter:
    """Meter of OpenTelemetry that keeps what it is told."""

    def __init__(self) -> None:
        self.made: dict[str, tuple[str, Callable[[object], list[object]], str]] = {}

    def create_observable_counter(self, name: str, callbacks: list[object], description: str) -> None:
        self.made[name] = "counter", callbacks[0], description  # type: ignore[assignment]

    def create_observable_gauge(self, name: str, callbacks: list[object], description: str) -> None:
        self.made[name] = "gauge", callbacks[0], description  # type: ignore[assignment]


def lines(metrics: Metrics) -> list[str]:
    return metrics.prometheus().decode().splitlines()


def test_a_family_of_several_parts_has_one_head_and_a_line_for_each() -> None:
    metrics, first, second = Metrics(), Counters(), Counters()
    metrics.count("publisher", first, table="nodes")
    metrics.count("publisher", second, table="pools")
    first.lost, second.lost = 3, 5
    shown = lines(metrics)
    assert shown.count("# TYPE cilia_publisher_lost_total counter") == 1
    assert 'cilia_publisher_lost_total{table="nodes"} 3.0' in shown
    assert 'cilia_publisher_lost_total{table="pools"} 5.0' in shown


def test_a_field_without_help_is_helped_by_its_name() -> None:
    metrics = Metrics()
    metrics.count("x", Counters())
    assert "# HELP cilia_x_sent_total sent" in lines(metrics)


def test_a_gauge_is_read_at_each_asking() -> None:
    metrics, values = Metrics(), iter((1.0, 2.5))
    metrics.gauge("endpoints", "endpoints here", lambda: next(values))
    assert "cilia_endpoints 1.0" in lines(metrics)
    assert "cilia_endpoints 2.5" in lines(metrics)


def test_nothing_to_show_is_nothing() -> None:
    assert Metrics().prometheus() == b""


def test_opentelemetry_reads_the_same_numbers() -> None:
    pytest.importorskip("opentelemetry.metrics")
    metrics, counters, meter = Metrics(), Counters(), Meter()
    metrics.count("flows", counters, node="a")
    metrics.gauge("endpoints", "endpoints here", lambda: 7)
    metrics.observe_with(meter)  # type: ignore[arg-type]
    counters.lost = 4
    kind, observe, text = meter.made["cilia_flows_lost"]
    [seen] = observe(None)
    assert (kind, text, seen.value, seen.attributes) == (  # type: ignore[attr-defined]
        "counter",
        "events that found no room",
        4,
        {"node": "a"},
    )
    assert meter.made["cilia_endpoints"][0] == "gauge"


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.integers(1, 100))
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(values: list[float], share: int) -> None:
    values.sort()
    found = percentile(values, share)
    assert sum(value <= found for value in values) * 100 >= share * len(values)
    smaller = [value for value in values if value < found]
    assert len(smaller) * 100 < share * len(values)


def test_of_no_values_it_is_zero() -> None:
    assert percentile([], 99) == 0.0
