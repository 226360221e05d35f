import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.agent.addresses import LOW_WATER, AddressPool
from services.agent.errors import PoolExhausted, UnknownBlock


def test_the_first_address_is_the_gateway_and_never_given_out() -> None:
    pool = AddressPool(["10.1.0.0/29"])
    assert pool.gateway == "10.1.0.1"
    assert [pool.allocate() for _ in range(5)] == [f"10.1.0.{n}" for n in range(2, 7)]


def test_a_full_pool_says_how_many_are_in_use() -> None:
    pool = AddressPool(["10.1.0.0/30"])
    pool.allocate()
    with pytest.raises(PoolExhausted, match=r"1 in use of 10\.1\.0\.0/30"):
        pool.allocate()


def test_a_later_block_gives_out_its_first_address_too() -> None:
    pool = AddressPool(["10.1.0.0/30"])
    pool.allocate()
    pool.add_block("10.2.0.0/30")
    assert [pool.allocate(), pool.allocate()] == ["10.2.0.1", "10.2.0.2"]


def test_an_address_that_comes_back_is_reused_last() -> None:
    pool = AddressPool(["10.1.0.0/29"])
    first = pool.allocate()
    pool.release(first)
    assert [pool.allocate() for _ in range(5)][-1] == first


def test_a_claimed_address_is_not_given_out() -> None:
    pool = AddressPool(["10.1.0.0/29"])
    pool.claim("10.1.0.2")
    assert pool.allocate() == "10.1.0.3"


def test_an_address_claimed_before_its_block_came_is_not_given_out_afterwards() -> None:
    pool = AddressPool()
    with pytest.raises(UnknownBlock):
        pool.claim("10.1.0.2")
    pool.add_block("10.1.0.0/29")
    assert pool.allocate() == "10.1.0.3"


def test_growth_is_asked_for_before_the_pool_is_empty() -> None:
    pool = AddressPool(["10.1.0.0/27"])
    while pool.free >= LOW_WATER:
        assert not pool.wants_growth
        pool.allocate()
    assert pool.wants_growth


@given(st.lists(st.booleans(), max_size=60))
def test_no_two_holders_ever_share_an_address(steps: list[bool]) -> None:
    pool = AddressPool(["10.1.0.0/28", "10.9.0.0/29"])
    held: list[str] = []
    for take in steps:
        if take and pool.free:
            address = pool.allocate()
            assert address not in held
            held.append(address)
        elif held:
            pool.release(held.pop(0))
    assert pool.used == len(held)
