"""Queries of devices, put to the kernel under the tests, and to one whose answers are odd."""

import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

from services.agent.netlink.queries import device_of, ifindex, read_links
from services.agent.netlink.requests import IFA_ADDRESS, IFA_LOCAL, IFADDRMSG
from services.agent.netlink.rtnetlink import RtNetlink, attribute

LOOPBACK = 1


class FakeNetlink(RtNetlink):
    """A socket whose dump has one answer for each of some addresses."""

    def __init__(self, **given: tuple[tuple[int, str], ...]) -> None:
        self.answers = [
            IFADDRMSG.pack(socket.AF_INET, 32, 0, 0, int(name[1:]))
            + b"".join(attribute(kind, ip_address(address).packed) for kind, address in addresses)
            for name, addresses in given.items()
        ]

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        return self.answers


def test_all_devices_are_found_with_their_names_and_mtus() -> None:
    with RtNetlink() as netlink:
        found = read_links(netlink)
    assert {index: link.name for index, link in found.items()} == dict(socket.if_nameindex())
    assert found[LOOPBACK].mtu_bytes == int(Path("/proc/sys/net/ipv6/conf/lo/mtu").read_text())


def test_a_device_is_found_by_its_name() -> None:
    assert (ifindex("lo"), ifindex("nowhere")) == (LOOPBACK, 0)


def test_a_device_is_found_by_its_address() -> None:
    with RtNetlink() as netlink:
        assert device_of(netlink, "127.0.0.1") == LOOPBACK
        assert device_of(netlink, "192.0.2.77") == 0


@pytest.mark.parametrize(("address", "index"), [("10.0.0.1", 3), ("10.0.0.2", 0), ("fd00::1", 4)])
def test_a_devices_own_address_counts_not_its_peers(address: str, index: int) -> None:
    netlink = FakeNetlink(
        d3=((IFA_ADDRESS, "10.0.0.2"), (IFA_LOCAL, "10.0.0.1")),
        d4=((IFA_ADDRESS, "fd00::1"),),
    )
    assert device_of(netlink, address) == index
