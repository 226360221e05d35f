"""Port ranges as prefixes: exact, disjoint, in order, and few."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.policy.engine.port_ranges import PORT_BITS, split_range

ports = st.integers(0, 65_535)


@pytest.mark.parametrize(
    ("first", "last", "blocks"),
    [
        (0, 65_535, [(0, 0)]),
        (80, 80, [(80, 16)]),
        (80, 81, [(80, 15)]),
        (81, 82, [(81, 16), (82, 16)]),
        (1024, 65_535, [(1024, 6), (2048, 5), (4096, 4), (8192, 3), (16_384, 2), (32_768, 1)]),
        (65_535, 65_535, [(65_535, 16)]),
        (0, 1023, [(0, 6)]),
    ],
)
def test_a_range_is_split_into_aligned_blocks(first: int, last: int, blocks: list[tuple[int, int]]) -> None:
    assert list(split_range(first, last)) == blocks


def test_a_range_that_ends_before_it_begins_is_nothing() -> None:
    assert split_range(5, 4) == ()


@given(ports, ports)
def test_blocks_cover_the_range_and_nothing_else(one: int, other: int) -> None:
    first, last = min(one, other), max(one, other)
    end = first
    for port, bits in split_range(first, last):
        size = 1 << (PORT_BITS - bits)
        assert port == end
        assert port % size == 0
        end = port + size
    assert end == last + 1


@given(ports, ports)
def test_no_two_neighbouring_blocks_are_one_and_there_are_thirty_at_most(one: int, other: int) -> None:
    blocks = split_range(min(one, other), max(one, other))
    assert len(blocks) <= 30
    for (port, bits), (above, same) in itertools.pairwise(blocks):
        size = 1 << (PORT_BITS - bits)
        assert not (bits == same and port % (2 * size) == 0 and above == port + size)
