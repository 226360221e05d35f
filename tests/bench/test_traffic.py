"""The benchmark's traffic generator, and what it is put to work on."""

import os
from collections.abc import Iterator

import pytest

from bench.nftables import Order, nftables, rule_set
from bench.ours import ports
from bench.plain import plain_routing, plain_vxlan
from bench.traffic import PORT, Generator, TrafficFailed, Way, compiled_generator
from laboratory.layout import Layout
from laboratory.namespaces import namespaces_of

SECONDS = 0.05


@pytest.fixture(scope="module")
def generator() -> Iterator[Generator]:
    with compiled_generator() as made:
        yield made


@pytest.fixture
def layout() -> Iterator[Layout]:
    layout = Layout(f"test-bench-{os.getpid()}")
    yield layout
    assert not namespaces_of(layout)


def works(generator: Generator, way: Way) -> None:
    """Check that all kinds of traffic arrive, and that figures cover the time asked for."""
    for mode in ("rr", "crr", "flows"):
        sample = generator.run(mode, way, SECONDS)
        assert sample.count > 100
        assert SECONDS <= sample.seconds < 2 * SECONDS
        assert 0 < sample.p50_ns <= sample.p99_ns
        assert sample.count * sample.p50_ns < 2e9 * sample.seconds
    assert generator.run("stream", way, SECONDS).count > 1_000_000


def test_traffic_passes_plain_routing(generator: Generator, layout: Layout) -> None:
    with plain_routing(layout, "plain") as (_, way):
        works(generator, way)


def test_traffic_passes_plain_vxlan(generator: Generator, layout: Layout) -> None:
    with plain_vxlan(layout) as way:
        works(generator, way)


@pytest.mark.parametrize("order", Order)
def test_nftables_passes_the_port_that_traffic_uses_and_no_other(
    generator: Generator, layout: Layout, order: Order
) -> None:
    with nftables(layout, 10, order) as way:
        assert generator.run("crr", way, SECONDS).count > 100
        with pytest.raises(TrafficFailed):
            generator.run("crr", Way(way.client, way.server, way.address, PORT + 1), SECONDS)


def test_the_rule_in_the_middle_is_the_one_for_traffic() -> None:
    for count in (10, 1000, 10000):
        assert len(set(ports(count))) == count
        assert list(ports(count)).index(PORT) == count // 2
        rules = [line for line in rule_set(count, Order.STATE_FIRST).splitlines() if "dport" in line]
        assert f"dport {PORT} " in rules[count // 2]
