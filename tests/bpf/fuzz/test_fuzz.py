"""The programs do what the model says; ``python -m tests.bpf.fuzz`` goes on for longer."""

from collections.abc import Iterator

import pytest

from cilia.abi.enums import DropReason
from tests.bpf.datapath.rig import Node
from tests.bpf.fuzz.campaign import Shares, laboratory, run


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with laboratory() as made:
        yield made


def test_random_packets_over_random_maps_meet_what_the_model_says(node: Node) -> None:
    outcomes = run(node, seed=1, packets=15_000, shares=Shares(nearly=0, broken=0.05))
    every_day = {0, DropReason.POLICY_DENIED, DropReason.DENIED_BY_RULE, DropReason.POLICY_NOT_READY}
    assert all(outcomes[reason] > 50 for reason in every_day)


def test_broken_and_hostile_packets_are_read_as_the_model_reads_them(node: Node) -> None:
    outcomes = run(node, seed=2, packets=15_000, shares=Shares(nearly=0, broken=0.95))
    assert outcomes[DropReason.INVALID_PACKET] > 500


def test_nearly_valid_packets_are_read_as_the_rfcs_have_it(node: Node) -> None:
    outcomes = run(node, seed=3, packets=10_000, shares=Shares(nearly=1, broken=0))
    of_reading = (
        DropReason.INVALID_PACKET,
        DropReason.INVALID_EXTENSION,
        DropReason.INVALID_FRAGMENT,
        DropReason.INVALID_ADDRESS,
        DropReason.FRAGMENT_UNKNOWN,
        DropReason.UNKNOWN_L4,
        DropReason.UNKNOWN_ICMP_TYPE,
    )
    assert all(outcomes[reason] > 20 for reason in (0, *of_reading)), outcomes
