"""Memory of an array, over a file in memory in place of the kernel's."""

import os
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.abi.kinds import MapKind
from cilia.datapath.array_memory import PAGE, ArrayMemory
from cilia.datapath.errors import KernelError
from cilia.datapath.maps import Map
from tests.unit.datapath.layouts import MemoryMap

ELEMENTS, VALUE_BYTES, STRIDE = 700, 12, 16


class MemoryArray(MemoryMap):
    """An array whose memory is a file."""

    def __init__(self, bytes_: int) -> None:
        super().__init__("slots", MapKind.ARRAY, 4, VALUE_BYTES, ELEMENTS)
        self.fd = os.memfd_create("slots")
        os.ftruncate(self.fd, bytes_)

    def fileno(self) -> int:
        return self.fd

    def word(self, offset: int, size: int = 4) -> int:
        return int.from_bytes(os.pread(self.fd, size, offset), "little")


@pytest.fixture
def array() -> Iterator[MemoryArray]:
    made = MemoryArray(-(-ELEMENTS * STRIDE // PAGE) * PAGE)
    yield made
    os.close(made.fd)


@pytest.fixture
def memory(array: MemoryArray) -> Iterator[ArrayMemory]:
    with ArrayMemory(cast(Map[int, Any], array)) as made:
        yield made


def test_elements_begin_at_multiples_of_8_bytes(array: MemoryArray, memory: ArrayMemory) -> None:
    memory.store_u32(3, 0xAABBCCDD, offset=8)
    assert array.word(3 * STRIDE + 8) == 0xAABBCCDD
    assert memory.load_u32(3, 8) == 0xAABBCCDD


def test_a_word_of_64_bits_covers_two_of_32(memory: ArrayMemory) -> None:
    memory.store_u64(1, 0x1122334455667788)
    assert (memory.load_u32(1), memory.load_u32(1, 4)) == (0x55667788, 0x11223344)
    assert memory.load_u64(1) == 0x1122334455667788


def test_others_writes_are_seen_without_a_call(array: MemoryArray, memory: ArrayMemory) -> None:
    os.pwrite(array.fd, (77).to_bytes(4, "little"), 5 * STRIDE)
    assert memory.load_u32(5) == 77


def test_a_sum_wraps_and_spares_its_neighbours(memory: ArrayMemory) -> None:
    memory.store_u32(2, 0xFFFF_FFFF, offset=4)
    assert memory.add_u32(2, 3, offset=4) == 2
    assert (memory.load_u32(2), memory.load_u32(2, 8)) == (0, 0)


def test_a_range_is_added_to_from_its_first_to_its_last_element(memory: ArrayMemory) -> None:
    memory.add_each_u32(range(10, 13), 5)
    assert [memory.load_u32(index) for index in range(9, 14)] == [0, 5, 5, 5, 0]
    memory.add_each_u32(range(0))
    memory.add_each_u32(range(ELEMENTS))
    assert memory.load_u32(ELEMENTS - 1) == 1


def test_a_range_that_ends_behind_the_array_changes_nothing(memory: ArrayMemory) -> None:
    with pytest.raises(IndexError, match=f"slots: no element {ELEMENTS} of {ELEMENTS}"):
        memory.add_each_u32(range(ELEMENTS - 2, ELEMENTS + 1))
    assert memory.load_u32(ELEMENTS - 1) == 0


@pytest.mark.parametrize("index", [-1, ELEMENTS])
def test_elements_that_there_are_not_are_refused(memory: ArrayMemory, index: int) -> None:
    with pytest.raises(IndexError, match=f"no element {index} of {ELEMENTS}"):
        memory.load_u32(index)


@pytest.mark.parametrize(("offset", "width"), [(2, 4), (12, 4), (-4, 4), (4, 8), (8, 8)])
def test_words_that_are_not_whole_and_aligned_in_an_element_are_refused(
    memory: ArrayMemory, offset: int, width: int
) -> None:
    load = memory.load_u32 if width == 4 else memory.load_u64
    with pytest.raises(IndexError, match=f"no word of {width} bytes at offset {offset} of {VALUE_BYTES}"):
        load(0, offset)


def test_after_closing_twice_nothing_is_read(array: MemoryArray) -> None:
    memory = ArrayMemory(cast(Map[int, Any], array))
    memory.close()
    memory.close()
    with pytest.raises(ValueError, match="slots: closed"):
        memory.load_u32(0)


def test_an_array_that_cannot_be_mapped_is_named() -> None:
    array = MemoryArray(PAGE)
    os.close(array.fd)
    with pytest.raises(KernelError, match="map the memory of slots: EBADF"):
        ArrayMemory(cast(Map[int, Any], array))


@given(st.dictionaries(st.tuples(st.integers(0, ELEMENTS - 1), st.sampled_from([0, 4, 8])), st.integers(0, 2**32 - 1)))
def test_every_word_keeps_what_was_stored_last(words: dict[tuple[int, int], int]) -> None:
    array = MemoryArray(-(-ELEMENTS * STRIDE // PAGE) * PAGE)
    try:
        with ArrayMemory(cast(Map[int, Any], array)) as memory:
            for (index, offset), value in words.items():
                memory.store_u32(index, value, offset)
            assert {place: memory.load_u32(*place) for place in words} == words
    finally:
        os.close(array.fd)
