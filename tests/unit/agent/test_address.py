from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.agent.address import Prefix, number, packed, prefix, text, unpacked


def test_both_families_stand_in_one_order() -> None:
    assert number("192.0.2.1") == int(ip_address("::ffff:192.0.2.1"))
    assert number("fd00::1") == int(ip_address("fd00::1"))
    assert prefix("192.0.2.0/24") == Prefix(number("192.0.2.0"), 120)
    assert prefix("fd00::/64") == Prefix(number("fd00::"), 64)
    assert prefix("0.0.0.0/0").length == 96


@given(st.ip_addresses().filter(lambda address: "::ffff:" not in str(address)))
def test_an_address_is_read_back(address: object) -> None:
    assert text(number(str(address))) == str(address)
    assert unpacked(packed(number(str(address)))) == number(str(address))


@given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4))
def test_a_mapped_prefix_contains_what_the_network_does(one: object, length: int, other: object) -> None:
    network = ip_network((str(one), length), strict=False)
    address, bits = prefix(str(network))
    assert (number(str(other)) >> (128 - bits) == address >> (128 - bits)) == (other in network)


@pytest.mark.parametrize("bad", ["", "nowhere", "10.0.0.0/8", "fd00::/64"])
def test_what_is_no_address_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        number(bad)


@given(st.integers(0, 32), st.integers(0, 32), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_prefix_holds_its_parts(length: int, inner_length: int, one: int, other: int) -> None:
    outer = ip_network((one, length), strict=False)
    inner = ip_network((one >> 1 if other % 2 else other, inner_length), strict=False)
    assert prefix(str(outer)).holds(prefix(str(inner))) == inner.subnet_of(outer)  # type: ignore[arg-type]


def test_all_of_ipv6_holds_a_prefix_of_either_family() -> None:
    assert prefix("::/0").holds(prefix("10.0.0.0/8"))
    assert not prefix("0.0.0.0/0").holds(prefix("2001:db8::/32"))
