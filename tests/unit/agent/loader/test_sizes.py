"""Sizes of maps: out of the node's memory, within limits, unless they are given."""

import msgspec
import pytest

from cilia.abi import maps
from cilia.errors import BadConfig
from services.agent.config import MapSizes
from services.agent.loader.sizes import FLOWS, entry_bytes, max_entries

GIB = 1 << 30
SHARED = (*FLOWS, maps.NAT)


def test_a_small_node_gets_the_least_and_a_huge_one_the_most() -> None:
    assert max_entries(MapSizes(), 2 * GIB)["cilia_ct4"] == 131072
    assert max_entries(MapSizes(most_entries=200000), 1000 * GIB)["cilia_nat"] == 200000


@pytest.mark.parametrize("gib", [128, 240, 1024])
def test_flows_and_mappings_together_take_their_share_and_hardly_less(gib: int) -> None:
    sizes = max_entries(MapSizes(), gib * GIB)
    taken = sum(sizes[layout.name] * entry_bytes(layout) for layout in SHARED)
    assert 0.98 < taken / (gib * GIB * 0.0025) <= 1


def test_a_size_that_is_given_is_taken() -> None:
    sizes = max_entries(MapSizes(conntrack=5000, policy=300), 240 * GIB)
    assert (sizes["cilia_ct4"], sizes["cilia_ct6"], sizes["cilia_policy"]) == (5000, 5000, 300)
    assert sizes["cilia_nat"] > 131072


def test_maps_that_only_take_memory_for_what_they_hold_keep_their_own_size() -> None:
    assert max_entries(MapSizes(), 1024 * GIB).keys() == {layout.name for layout in (*SHARED, maps.NAT_TURNS)}


def test_a_little_less_memory_changes_no_size() -> None:
    assert max_entries(MapSizes(), 240 * GIB) == max_entries(MapSizes(), 240 * GIB - (4 << 10))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("memory_share", 0.6), ("memory_share", -0.1), ("conntrack", -1), ("policy", 1 << 27), ("least_entries", 0)],
)
def test_a_size_out_of_range_is_refused_by_name(setting: str, value: float) -> None:
    with pytest.raises(BadConfig, match=f"maps.{setting}"):
        msgspec.structs.replace(MapSizes(), **{setting: value})
