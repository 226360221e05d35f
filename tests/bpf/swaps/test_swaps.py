"""Policies swapped under traffic: every verdict is the old set's or the new one's; and the test
sees it if not.
"""

import os
from collections.abc import Iterator

import pytest

from tests.bpf.swaps.arena import CLOSED_ON_BOTH_SIDES, OPEN, Arena, arena
from tests.bpf.swaps.campaign import run
from tests.bpf.swaps.writers import Writer, rewrite_in_place, write_as_the_agent, write_one_subject_after_the_other

SWAPS = 300
"""10,000 by ``python -m tests.bpf.swaps``."""


@pytest.fixture
def here() -> Iterator[Arena]:
    if os.geteuid() != 0:
        pytest.skip("needs root for eBPF")
    with arena() as here:
        yield here


def test_no_packet_sees_a_mixture_or_nothing_between_two_sets_of_policies(here: Arena) -> None:
    result = run(here, write_as_the_agent, SWAPS)
    assert result.wrong == {}
    assert result.verdicts > SWAPS, "too little traffic to tell"


@pytest.mark.parametrize(
    ("write", "seen"),
    [
        (rewrite_in_place, f"port {OPEN} was dropped"),
        (write_one_subject_after_the_other, f"port {CLOSED_ON_BOTH_SIDES} was let through"),
    ],
)
def test_what_is_not_atomic_is_caught(here: Arena, write: Writer, seen: str) -> None:
    for _ in range(20):
        result = run(here, write, 50 * SWAPS, until_wrong=True)
        assert result.wrong, f"{result.swaps} swaps under {result.packets} packets, and nothing was noticed"
        if seen in result.wrong:
            return
    pytest.fail(f"never seen: {seen}")
