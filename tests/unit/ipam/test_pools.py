import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.contracts.ids import NodeName
from cilia.errors import BadConfig
from services.ipam.errors import PoolExhausted
from services.ipam.pools import AddressPool, choose_block, parse_pools

N1 = NodeName("n1")


def pool(text: str = "default=10.244.0.0/16/26") -> AddressPool:
    (only,) = parse_pools([text]).values()
    return only


def test_a_pool_is_cut_into_blocks_of_one_length() -> None:
    assert pool().blocks == 1024
    assert [pool().block(index) for index in (0, 1, 1023)] == ["10.244.0.0/26", "10.244.0.64/26", "10.244.255.192/26"]


def test_a_pool_of_ipv6_is_never_enumerated() -> None:
    wide = pool("six=fd00::/8/64")
    assert wide.blocks == 2**56
    assert wide.contains(choose_block(wide, N1, taken=set()))


def test_blocks_of_absent_nodes_are_given_last() -> None:
    tiny = pool("tiny=10.0.0.0/24/26")
    remembered = {tiny.block(index) for index in range(3)}
    assert choose_block(tiny, N1, taken=set(), remembered=remembered) == tiny.block(3)
    assert choose_block(tiny, N1, taken={tiny.block(3)}, remembered=remembered) in remembered


@given(st.integers(0, 4), st.text("abc", min_size=1))
def test_every_block_is_granted_once_before_the_pool_is_exhausted(bits: int, name: str) -> None:
    small = pool(f"small=10.0.0.0/24/{24 + bits}")
    taken: set[str] = set()
    for _ in range(small.blocks):
        block = choose_block(small, NodeName(name), taken=taken, remembered={small.block(0)})
        assert block not in taken
        taken.add(block)
    with pytest.raises(PoolExhausted, match=rf"'small' is exhausted: all {small.blocks} blocks of /{24 + bits}"):
        choose_block(small, NodeName(name), taken=taken)


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["default"],
        ["default=10.0.0.0/8"],
        ["default=10.0.0.1/8/24"],
        ["default=10.0.0.0/33/34"],
        ["default=10.0.0.0/24/16"],
        ["default=10.0.0.0/24/31"],
        ["default=10.0.0.0/24/x"],
        ["default=fd00::/64/127"],
        ["Default=10.0.0.0/16/26"],
        ["=10.0.0.0/16/26"],
        ["a=10.0.0.0/16/26", "a=10.1.0.0/16/26"],
    ],
)
def test_impossible_pools_are_refused_with_setting_and_value(texts: list[str]) -> None:
    with pytest.raises(BadConfig) as caught:
        parse_pools(texts)
    assert caught.value.field == "pools"
    assert caught.value.value == (texts[-1] if texts else "")


def test_overlapping_pools_are_refused_by_name() -> None:
    with pytest.raises(BadConfig, match=r"a=10.0.0.0/8 and b=10.1.0.0/16.*overlap"):
        parse_pools(["a=10.0.0.0/8/26", "b=10.1.0.0/16/26", "c=fd00::/48/64"])
