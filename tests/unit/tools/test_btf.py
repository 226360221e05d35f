"""Types of an object file: structs, enums, maps and configuration, as the compiler left them."""

from pathlib import Path

import pytest

from cilia.abi.kinds import MapKind
from cilia.datapath.layout import Array, Integer, Struct
from tools.btf import MapDefinition, ObjectBtf
from tools.build import compile_bpf

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum fruit_kind {
	FRUIT_APPLE = 1,
	FRUIT_PEAR = 7,
};

struct pair {
	__be16 port;
	__u16 unused;
	__u32 bits : 3;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 10);
	__uint(map_flags, BPF_F_NO_COMMON_LRU);
	__type(key, struct pair);
	__type(value, __u64);
} cilia_pairs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} cilia_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__uint(value_size, 4);
} cilia_calls SEC(".maps");

const volatile __u16 port = 8472;
const volatile _Bool is_native = 1;
const volatile __u8 mac[6] = {2, 99};
const volatile enum fruit_kind fruit = FRUIT_PEAR;
"""


@pytest.fixture(scope="module")
def btf(tmp_path_factory: pytest.TempPathFactory) -> ObjectBtf:
    directory: Path = tmp_path_factory.mktemp("btf")
    (directory / "one.c").write_text(SOURCE)
    compile_bpf(directory / "one.c", directory / "one.o")
    return ObjectBtf.of(directory / "one.o")


def test_maps_are_what_their_definitions_say(btf: ObjectBtf) -> None:
    found = {one.name: one for one in btf.maps()}
    pairs = found["cilia_pairs"]
    assert (pairs.kind, pairs.max_entries, pairs.flags) == (MapKind.LRU_HASH, 1024, 2)
    assert isinstance(pairs.key, Struct)
    assert (pairs.key.name, pairs.key.size) == ("pair", 8)
    assert pairs.value == Integer("__u64", 8)


def test_a_ring_has_neither_key_nor_value(btf: ObjectBtf) -> None:
    (ring,) = (one for one in btf.maps() if one.name == "cilia_events")
    assert ring == MapDefinition("cilia_events", MapKind.RINGBUF, 4096, 0, None, None)


def test_a_map_that_only_tells_its_sizes_has_words(btf: ObjectBtf) -> None:
    (calls,) = (one for one in btf.maps() if one.name == "cilia_calls")
    assert (calls.kind, calls.key, calls.value) == (MapKind.PROG_ARRAY, Integer("__u32", 4), Integer("__u32", 4))


def test_named_structs_keep_their_members_in_bits(btf: ObjectBtf) -> None:
    (pair,) = (one for one in btf.structs() if one.name == "pair")
    assert [(one.name, one.bit_offset, one.bit_width) for one in pair.members] == [
        ("port", 0, 0),
        ("unused", 16, 0),
        ("bits", 32, 3),
    ]
    first = pair.members[0].type
    assert isinstance(first, Integer)
    assert first.is_network_order


def test_enums_keep_their_values_in_order(btf: ObjectBtf) -> None:
    (fruit,) = (one for one in btf.enums() if one.name == "fruit_kind")
    assert fruit.values == (("FRUIT_APPLE", 1), ("FRUIT_PEAR", 7))


def test_configuration_has_its_type_and_its_initial_bytes(btf: ObjectBtf) -> None:
    found = {one.name: one for one in btf.variables()}
    assert set(found) == {"port", "is_native", "mac", "fruit"}
    assert found["port"].initial == (8472).to_bytes(2, "little")
    assert found["is_native"].type == Integer("_Bool", 1, is_bool=True)
    assert (found["mac"].type, found["mac"].initial) == (Array(Integer("__u8", 1), 6), b"\x02\x63\0\0\0\0")
