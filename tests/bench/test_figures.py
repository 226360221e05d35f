"""Figures of the data plane's benchmark, from samples; rule sets and policies that it compares."""

import re

import pytest
import yaml

from bench.datapath import ratio, throughput, transactions
from bench.nftables import Order, rule_set
from bench.ours import CLIENT_POLICY, SERVER_POLICY
from bench.plain import address, mac
from bench.traffic import Sample


def sample(count: int, cpu_seconds: float) -> Sample:
    return Sample(count=count, seconds=1.0, cpu_seconds=cpu_seconds, p50_ns=5_000, p99_ns=9_000)


def test_a_rate_is_per_second_of_the_processor() -> None:
    assert sample(1000, 0.5).per_second == 2000


def test_transactions_have_rate_latency_and_cost() -> None:
    found = {each.name: each for each in transactions("rr", {"local": [sample(1000, 0.5), sample(1000, 1.0)]})}
    assert found["local.rr.per_s"].value == 1500
    assert (found["local.rr.p50_us"].value, found["local.rr.p99_us"].value) == (5, 9)
    assert (found["local.rr.cpu_us"].low, found["local.rr.cpu_us"].high) == (500, 1000)


def test_a_stream_has_a_rate_in_bits() -> None:
    found = {each.name: each for each in throughput({"vxlan": [sample(1_000_000_000, 1.0)]})}
    assert found["vxlan.stream.gbit_s"].value == pytest.approx(8)
    assert found["vxlan.stream.cpu_s_per_gb"].value == pytest.approx(1)


def test_a_ratio_is_of_the_same_round() -> None:
    fast_then_slow = [sample(100, 1), sample(10, 1)]
    figure = ratio("local.ratio", fast_then_slow, fast_then_slow)
    assert (figure.low, figure.value, figure.high) == (1, 1, 1), "a slow moment meets both"


@pytest.mark.parametrize("order", Order)
def test_a_rule_set_has_a_rule_for_each_port_and_the_state_where_it_is_said(order: Order) -> None:
    lines = rule_set(10, order).splitlines()
    rules = [number for number, line in enumerate(lines) if "dport" in line]
    (state,) = (number for number, line in enumerate(lines) if "ct state" in line)
    assert len(rules) == 10
    assert state == (rules[0] - 1 if order is Order.STATE_FIRST else rules[-1] + 1)


def test_the_policies_of_the_benchmark_are_documents_of_the_language() -> None:
    for text in (CLIENT_POLICY.format(port=1, last=2), SERVER_POLICY.format(count=10, port=1, last=2)):
        document = yaml.safe_load(text)
        assert document["kind"] == "CiliumNetworkPolicy"
        assert document["metadata"]["namespace"] == "bench"


def test_plain_pods_have_addresses_of_their_own() -> None:
    assert len({address(number) for number in range(2, 200)}) == 198
    assert all(re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", mac(number)) for number in range(2, 200))
