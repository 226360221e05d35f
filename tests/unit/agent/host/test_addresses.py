"""Addresses at which the node's stack listens, by those that its devices have."""

from ipaddress import ip_address

import pytest

from cilia.abi.enums import HostAddressKind
from cilia.contracts.ipam import MOST_NODE_ADDRESSES
from services.agent.address import number, text
from services.agent.host.addresses import HostAddresses, published_addresses
from services.agent.netlink.addresses import DeviceAddress

OWN, BROADCAST = HostAddressKind.OWN, HostAddressKind.BROADCAST
UPLINK, HOST = 2, 9


def on(
    cidr: str, ifindex: int = UPLINK, *, broadcast: str = "", is_global: bool = True, is_duplicate: bool = False
) -> DeviceAddress:
    address, _, bits = cidr.partition("/")
    packed = ip_address(broadcast).packed if broadcast else b""
    return DeviceAddress(ip_address(address).packed, int(bits), ifindex, packed, is_global, is_duplicate)


def entries(*found: DeviceAddress) -> dict[str, HostAddressKind]:
    addresses = HostAddresses()
    addresses.replace(found)
    return {text(address): kind for address, kind in addresses.desired.items()}


EXPECTED = {
    "an address and its network's broadcast": (
        [on("192.0.2.10/24")],
        {"192.0.2.10": OWN, "192.0.2.255": BROADCAST},
    ),
    "a broadcast address that was set beside the network's": (
        [on("192.0.2.10/24", broadcast="192.0.2.127")],
        {"192.0.2.10": OWN, "192.0.2.127": BROADCAST, "192.0.2.255": BROADCAST},
    ),
    "a lone address": ([on("192.0.2.10/32")], {"192.0.2.10": OWN}),
    "a link of two": ([on("192.0.2.10/31")], {"192.0.2.10": OWN}),
    "a link of two in IPv6": ([on("2001:db8::1/127")], {"2001:db8::1": OWN}),
    "an address of IPv6 and its network's any router": (
        [on("2001:db8:0:1::7/64")],
        {"2001:db8:0:1::7": OWN, "2001:db8:0:1::": OWN},
    ),
    "a link-local address": ([on("fe80::7/64", is_global=False)], {"fe80::7": OWN, "fe80::": OWN}),
    "loopback is left to the programs": ([on("127.0.0.1/8"), on("::1/128")], {}),
    "what a device has is no broadcast address": (
        [on("192.0.2.255/32"), on("192.0.2.1/24")],
        {"192.0.2.255": OWN, "192.0.2.1": OWN},
    ),
    "another host's": ([on("2001:db8::7/128", is_duplicate=True)], {}),
    "of several devices": (
        [on("192.0.2.10/32"), on("172.17.0.1/32", 5), on("10.99.0.1/32", 1)],
        {"192.0.2.10": OWN, "172.17.0.1": OWN, "10.99.0.1": OWN},
    ),
}


@pytest.mark.parametrize(("found", "expected"), EXPECTED.values(), ids=EXPECTED)
def test_the_stack_listens_at(found: list[DeviceAddress], expected: dict[str, HostAddressKind]) -> None:
    assert entries(*found) == expected


def test_changes_are_those_of_the_addresses_alone() -> None:
    addresses = HostAddresses()
    addresses.replace([on("192.0.2.10/32"), on("192.0.2.11/32")])
    assert addresses.take_changes() == {number("192.0.2.10"), number("192.0.2.11")}
    addresses.replace([on("192.0.2.11/32", 7), on("192.0.2.12/32")])
    assert addresses.take_changes() == {number("192.0.2.10"), number("192.0.2.12")}
    assert addresses.own == {number("192.0.2.11"), number("192.0.2.12")}
    addresses.replace([on("192.0.2.12/32"), on("192.0.2.11/32")])
    assert addresses.take_changes() == set()


def test_an_address_that_two_devices_have_stays_until_neither_has_it() -> None:
    addresses = HostAddresses()
    addresses.replace([on("192.0.2.10/32", 2), on("192.0.2.10/32", 3)])
    addresses.take_changes()
    addresses.replace([on("192.0.2.10/32", 3)])
    assert addresses.take_changes() == set()
    addresses.replace([])
    assert addresses.take_changes() == {number("192.0.2.10")}


def test_a_change_that_is_undone_before_it_was_taken_is_taken_all_the_same() -> None:
    addresses = HostAddresses()
    addresses.replace([on("192.0.2.10/32")])
    addresses.replace([])
    assert addresses.take_changes() == {number("192.0.2.10")}
    assert addresses.desired == {}


def test_others_are_told_what_is_known_beyond_the_link() -> None:
    addresses = HostAddresses()
    addresses.replace(
        [
            on("2001:db8::7/64"),
            on("192.0.2.10/24"),
            on("fe80::7/64", is_global=False),
            on("fe80::8/64"),
            on("10.1.0.1/32", HOST),
            on("192.168.5.1/24", is_global=False),
        ],
        frozenset({HOST}),
    )
    assert addresses.published == ("192.0.2.10", "2001:db8::7")


def test_a_node_with_very_many_addresses_tells_of_some_and_always_the_same() -> None:
    many = [on(f"10.{number >> 8}.{number & 255}.1/32") for number in range(1000)]
    told = published_addresses(many)
    assert len(told) == MOST_NODE_ADDRESSES
    assert told == published_addresses(reversed(many))
