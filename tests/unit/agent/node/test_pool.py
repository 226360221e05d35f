from collections.abc import Iterable
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.agent.errors import PoolExhausted, UnknownBlock
from services.agent.node.pool import LOW_WATER, Addresses, AddressPool


def pool_of(*blocks: str) -> AddressPool:
    return granted(*blocks, versions={ip_network(block).version for block in blocks})


def granted(*blocks: str, versions: Iterable[int]) -> AddressPool:
    pool = AddressPool(versions)
    for block in blocks:
        pool.add_block(block)
    return pool


def holding(*addresses: str) -> Addresses:
    return Addresses(*addresses)


def test_the_first_address_is_the_gateway_and_never_given_out() -> None:
    pool = pool_of("10.1.0.0/29")
    assert pool.gateways == ("10.1.0.1", "")
    assert [pool.allocate().ipv4 for _ in range(5)] == [f"10.1.0.{n}" for n in range(2, 7)]


def test_a_pod_gets_one_address_of_each_family() -> None:
    pool = pool_of("10.1.0.0/29", "fd00:1::/64")
    assert pool.gateways == ("10.1.0.1", "fd00:1::1")
    assert [pool.allocate(), pool.allocate()] == [("10.1.0.2", "fd00:1::2"), ("10.1.0.3", "fd00:1::3")]


def test_a_family_that_pods_do_not_get_is_left_alone() -> None:
    pool = granted("10.1.0.0/29", "fd00:1::/64", versions=[6])
    assert (pool.allocate(), pool.lacking) == (("", "fd00:1::2"), ())


def test_a_full_pool_says_how_many_are_in_use() -> None:
    pool = pool_of("10.1.0.0/30")
    pool.allocate()
    with pytest.raises(PoolExhausted, match=r"1 in use of 10\.1\.0\.0/30"):
        pool.allocate()


def test_where_one_family_has_none_left_nothing_is_taken_of_the_other() -> None:
    pool = pool_of("10.1.0.0/30", "fd00:1::/64")
    pool.allocate()
    free = pool.free(6)
    assert pool.lacking == (4,)
    with pytest.raises(PoolExhausted):
        pool.allocate()
    assert pool.free(6) == free


def test_a_later_block_gives_out_its_first_address_too() -> None:
    pool = pool_of("10.1.0.0/30")
    pool.allocate()
    pool.add_block("10.2.0.0/30")
    assert [pool.allocate().ipv4, pool.allocate().ipv4] == ["10.2.0.1", "10.2.0.2"]


def test_an_address_that_comes_back_is_reused_last() -> None:
    pool = pool_of("10.1.0.0/29")
    back = pool.allocate()
    pool.release(back)
    assert [pool.allocate() for _ in range(5)][-1] == back


@pytest.mark.parametrize(("block", "claimed"), [("10.1.0.0/29", "10.1.0.2"), ("fd00::/64", "fd00::2")])
def test_a_claimed_address_is_not_given_out_until_it_comes_back(block: str, claimed: str) -> None:
    version = ip_address(claimed).version
    pool = pool_of(block)
    before = pool.free(version)
    held = holding(claimed) if version == 4 else holding("", claimed)
    pool.claim(held)
    pool.claim(held)
    assert pool.free(version) == before - 1
    assert held != pool.allocate()
    pool.release(held)
    pool.release(held)
    assert pool.free(version) == before - 1


def test_an_address_claimed_before_its_block_came_is_not_given_out_afterwards() -> None:
    pool = AddressPool([4])
    with pytest.raises(UnknownBlock, match=r"address 10\.1\.0\.2"):
        pool.claim(holding("10.1.0.2"))
    pool.add_block("10.1.0.0/29")
    assert pool.free(4) == 4
    assert pool.allocate() == holding("10.1.0.3")


def test_an_address_behind_the_ones_given_out_comes_once_after_its_return() -> None:
    pool = pool_of("10.1.0.0/29")
    pool.claim(holding("10.1.0.4"))
    pool.release(holding("10.1.0.4"))
    given_out = [pool.allocate().ipv4 for _ in range(5)]
    assert given_out == ["10.1.0.2", "10.1.0.3", "10.1.0.5", "10.1.0.6", "10.1.0.4"]


def test_growth_is_asked_for_before_the_pool_is_empty() -> None:
    pool = pool_of("10.1.0.0/27", "fd00::/64")
    while pool.free(4) >= LOW_WATER:
        assert pool.low == ()
        pool.allocate()
    assert pool.low == (4,)


@given(st.lists(st.booleans(), max_size=60))
def test_no_two_holders_ever_share_an_address(steps: list[bool]) -> None:
    pool = pool_of("10.1.0.0/28", "10.9.0.0/29", "fd00::/124", "fd00:9::/125")
    held: list[Addresses] = []
    size = pool.free(4)
    for take in steps:
        if take and not pool.lacking:
            addresses = pool.allocate()
            assert not {*addresses} & {address for each in held for address in each}
            held.append(addresses)
        elif held:
            pool.release(held.pop(0))
        assert pool.free(4) == pool.free(6) == size - len(held)
    assert pool.used == 2 * len(held)


def test_a_block_that_is_lost_is_allocated_from_no_more_and_its_addresses_are_lost() -> None:
    pool = pool_of("10.1.0.0/29", "10.2.0.0/29")
    taken = [pool.allocate() for _ in range(8)]
    back = taken.pop(0)
    pool.release(back)
    pool.hold(["10.2.0.0/29"])
    assert (pool.blocks, pool.gateways.ipv4) == (("10.2.0.0/29",), "10.2.0.1")
    assert [pool.is_lost(each) for each in taken] == [True] * 4 + [True, False, False]  # 10.2.0.1 is the gateway
    assert [pool.allocate().ipv4 for _ in range(pool.free(4))] == ["10.2.0.4", "10.2.0.5", "10.2.0.6"]


def test_to_hold_what_is_held_changes_nothing() -> None:
    pool = pool_of("10.1.0.0/29", "fd00:1::/64")
    pool.allocate()
    free = pool.free(4), pool.free(6)
    pool.hold(pool.blocks)
    assert (pool.free(4), pool.free(6)) == free
    assert pool.allocate() == ("10.1.0.3", "fd00:1::3")


def test_a_block_that_is_granted_again_has_its_pods_addresses_marked() -> None:
    pool = pool_of("10.1.0.0/29")
    held = [pool.allocate(), pool.allocate()]
    pool.hold([])
    assert (pool.free(4), [pool.is_lost(each) for each in held]) == (0, [True, True])
    pool.hold(["10.1.0.0/29"])
    assert [pool.is_lost(each) for each in held] == [False, False]
    assert [pool.allocate().ipv4 for _ in range(pool.free(4))] == ["10.1.0.4", "10.1.0.5", "10.1.0.6"]
