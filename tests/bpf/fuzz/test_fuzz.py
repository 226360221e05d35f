"""The programs do what the model says; ``python -m tests.bpf.fuzz`` goes on for longer."""

from collections.abc import Iterator

import pytest

from cilia.abi.enums import DropReason
from tests.bpf.datapath.rig import Node
from tests.bpf.fuzz.campaign import laboratory, run


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with laboratory() as made:
        yield made


def test_random_packets_over_random_maps_meet_what_the_model_says(node: Node) -> None:
    outcomes = run(node, seed=1, packets=15_000, share_broken=0.05)
    every_day = {0, DropReason.POLICY_DENIED, DropReason.DENIED_BY_RULE, DropReason.POLICY_NOT_READY}
    assert all(outcomes[reason] > 50 for reason in every_day)


def test_broken_and_hostile_packets_are_read_as_the_model_reads_them(node: Node) -> None:
    outcomes = run(node, seed=2, packets=20_000, share_broken=0.95)
    assert outcomes[DropReason.INVALID_PACKET] > 500
