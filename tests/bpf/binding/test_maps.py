"""Maps: elements and batches, what happens when one is full, and memory shared with programs."""

from typing import Any

import pytest

from cilia.abi.codec import U32, U64, MapLayout
from cilia.abi.kinds import MapKind
from cilia.datapath import maps
from cilia.datapath.array_memory import ArrayMemory
from cilia.datapath.descriptor import lib
from cilia.datapath.errors import ENOTSUPP, MapError, MapFull, MapMismatch
from cilia.datapath.maps import Map
from cilia.datapath.objects import LoadedObject
from cilia.datapath.rcu import synchronize_rcu
from tests.bpf.binding.layouts import COUNTS, HASH, TRIE, WORDS, Pair, TrieKey

PACKET = bytes(64)


def refuse_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer as a 5.10 kernel does for an LPM trie: ENOTSUPP, the count untouched."""

    class WithoutBatches:
        def __getattr__(self, name: str) -> Any:
            return (lambda *_: -ENOTSUPP) if name.endswith("_batch") else getattr(lib, name)

    monkeypatch.setattr(maps, "lib", WithoutBatches())


@pytest.fixture(params=["batched", "one by one"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "one by one":
        refuse_batches(monkeypatch)


def test_an_element_is_there_until_it_is_deleted(loaded: LoadedObject) -> None:
    with loaded.map(HASH) as entries:
        assert entries.lookup(1) is None
        entries.update(1, 10)
        assert entries.lookup(1) == 10
        assert entries.delete(1)
        assert not entries.delete(1)


@pytest.mark.usefixtures("way")
def test_what_is_written_together_is_read_and_deleted_together(loaded: LoadedObject) -> None:
    with loaded.map(HASH) as entries:
        wanted = {number: number * 2 for number in range(100)}
        assert entries.update_many(wanted.items()) == 100
        assert dict(entries.items()) == wanted
        assert sorted(entries.keys()) == sorted(wanted)
        assert entries.delete_many([*range(0, 100, 2), 1000]) == 50
        assert dict(entries.items()) == {number: number * 2 for number in range(1, 100, 2)}
        assert entries.delete_many([]) == 0


@pytest.mark.usefixtures("way")
def test_a_full_hash_says_how_far_the_batch_got(loaded: LoadedObject) -> None:
    with loaded.map(HASH) as entries:
        with pytest.raises(MapFull, match=r"map test_hash: update, key .* \(full: 100 entries, \d+ of the batch"):
            entries.update_many((number, 0) for number in range(150))
        entries.delete_many(range(100))
        with pytest.raises(MapFull) as full:
            entries.update_many((number, number) for number in range(150))
        assert full.value.done == len(entries.items())
        assert dict(entries.items()) == {number: number for number in range(full.value.done)}


@pytest.mark.usefixtures("way")
def test_a_batch_goes_on_from_where_it_stopped_once_there_is_room(loaded: LoadedObject) -> None:
    with loaded.map(HASH) as entries:
        entries.update_many((number, 0) for number in range(1000, 1060))
        wanted = [(number, number) for number in range(80)]
        with pytest.raises(MapFull) as full:
            entries.update_many(wanted)
        assert 0 < full.value.done < 80
        entries.delete_many(range(1000, 1060))
        entries.update_many(wanted[full.value.done :])
        assert sorted(entries.items()) == wanted


@pytest.mark.usefixtures("way")
def test_a_trie_answers_with_the_longest_prefix_and_names_a_bad_key(loaded: LoadedObject) -> None:
    with loaded.map(TRIE) as trie:
        trie.update_many([(TrieKey(8, b"\x0a\0\0\0"), 8), (TrieKey(24, b"\x0a\1\2\0"), 24)])
        assert trie.lookup(TrieKey(32, b"\x0a\1\2\3")) == 24
        assert trie.lookup(TrieKey(32, b"\x0a\1\3\3")) == 8
        assert sorted(value for _, value in trie.items()) == [8, 24]
        bad = [(TrieKey(32, bytes([1, 0, 0, at])), at) for at in range(5)] + [(TrieKey(33, bytes(4)), 0)]
        with pytest.raises(MapError, match="map test_trie: update, key 2100000000000000: EINVAL"):
            trie.update_many(bad)
        assert len(trie.items()) == 7


@pytest.mark.usefixtures("way")
def test_an_array_gives_every_element(loaded: LoadedObject) -> None:
    with loaded.map(WORDS) as words:
        words.update_many([(2, 22), (3, 33)])
        assert words.items() == [(at, {2: 22, 3: 33}.get(at, 0)) for at in range(16)]


@pytest.mark.usefixtures("way")
def test_a_per_cpu_map_gives_the_sum_over_cpus(loaded: LoadedObject) -> None:
    for _ in range(3):
        loaded.program("give_answer").test_run(PACKET, repeat=10)
    with loaded.per_cpu_map(COUNTS) as counts:
        assert counts.lookup(0) == Pair(30, 30 * 64)
        assert dict(counts.items())[0] == Pair(30, 30 * 64)


def test_a_map_of_other_sizes_than_its_layout_is_refused(loaded: LoadedObject) -> None:
    with pytest.raises(MapMismatch, match="map test_hash: value_size is 4, wanted 8"):
        loaded.map(MapLayout("test_hash", MapKind.HASH, U32, U64, 100))


def test_a_program_sees_a_word_as_soon_as_it_is_stored(loaded: LoadedObject) -> None:
    program = loaded.program("give_word")
    with loaded.map(WORDS) as array, ArrayMemory(array) as words:
        for value in (1, 77, 2**31 - 1):
            words.store_u64(3, value)
            assert program.test_run(PACKET).retval == value
        words.store_u32(3, 0)
        words.store_u32(3, 5, offset=4)
        assert array.lookup(3) == 5 << 32
        assert words.add_u32(4) == 1
        assert words.load_u32(4) == 1
        assert words.load_u64(3) == 5 << 32


def test_a_word_outside_the_array_is_refused(loaded: LoadedObject) -> None:
    with loaded.map(WORDS) as array, ArrayMemory(array) as words:
        for index, offset in ((16, 0), (-1, 0), (0, 8), (0, 4)):
            with pytest.raises(IndexError, match="test_words"):
                words.load_u64(index, offset)
    with pytest.raises(ValueError, match="closed"):
        words.load_u64(0)


def test_waiting_for_readers_ends() -> None:
    synchronize_rcu()


def test_a_map_is_reopened_by_its_pin(loaded: LoadedObject, pins: Any) -> None:
    with loaded.map(HASH) as entries:
        entries.pin(pins / "test_hash")
        entries.update(5, 6)
    with Map.open_pinned(pins, HASH) as again:
        assert again.lookup(5) == 6
