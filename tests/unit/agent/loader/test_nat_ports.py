"""Ports that masqueraded flows take, and the word that tells the programs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.abi import maps
from cilia.abi.structs import NatPorts
from services.agent.loader import nat_ports
from services.agent.loader.nat_ports import (
    FIRST_PORT,
    LAST_PORT,
    LAST_SERVICE_PORT,
    NatPortsWord,
    local_ports,
    masquerade_ports,
)
from tests.unit.agent.maps import FakeArrayMemory, FakeObjects


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        ((32768, 60999), (1024, 29999)),
        ((1024, 32767), (32768, 65535)),
        ((10000, 20000), (20001, 65535)),
        ((15000, 64000), (1024, 14999)),
        ((1024, 65535), (1024, 65535)),
    ],
)
def test_masqueraded_flows_take_what_the_node_leaves_over(local: tuple[int, int], expected: tuple[int, int]) -> None:
    assert masquerade_ports(*local) == expected


@given(st.integers(1024, 65_534), st.integers(0, 65_535))
def test_masqueraded_flows_never_take_a_port_of_the_nodes_own(first: int, more: int) -> None:
    last = min(first + more, LAST_PORT - 1)
    low, high = masquerade_ports(first, last)
    assert low >= FIRST_PORT
    assert high <= LAST_PORT
    assert high < first or low > last
    assert low > last or high <= LAST_SERVICE_PORT


def test_the_node_says_which_ports_are_its_own() -> None:
    first, last = local_ports()
    assert 0 < first < last <= LAST_PORT


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> FakeObjects:
    monkeypatch.setattr(nat_ports, "ArrayMemory", FakeArrayMemory)
    return FakeObjects()


def stored(objects: FakeObjects) -> NatPorts:
    word = FakeArrayMemory(objects.map(maps.NAT_PORTS)).load_u64(0)
    return NatPorts.unpack(word.to_bytes(8, "little"))


def test_a_change_is_told_once_and_ports_from_earlier_are_still_looked_at(objects: FakeObjects) -> None:
    word = NatPortsWord(objects.loaded)
    assert word.follow(1024, 29_999)
    assert stored(objects) == NatPorts(1024, 29_999, 1024, 29_999)
    assert not word.follow(1024, 29_999)
    assert word.follow(40_000, 65_535)
    assert stored(objects) == NatPorts(40_000, 65_535, 1024, 65_535)


def test_an_agent_that_starts_anew_keeps_what_mappings_have_from_earlier(objects: FakeObjects) -> None:
    NatPortsWord(objects.loaded).follow(50_000, 60_000)
    NatPortsWord(objects.loaded).follow(1024, 29_999)
    assert stored(objects) == NatPorts(1024, 29_999, 1024, 60_000)
