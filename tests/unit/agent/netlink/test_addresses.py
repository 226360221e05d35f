"""Addresses and the notices of their changes, of the kernel under the tests, in a namespace."""

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from services.agent.netlink.addresses import (
    IFA_BROADCAST,
    IFA_F_DADFAILED,
    IFA_FLAGS,
    AddressNotices,
    DeviceAddress,
    read_addresses,
)
from services.agent.netlink.requests import IFA_ADDRESS, IFA_LOCAL, IFADDRMSG
from services.agent.netlink.rtnetlink import RtNetlink, attribute
from tests.bpf.datapath.namespace import Namespace


def packed(address: str) -> bytes:
    return ip_address(address).packed


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with Namespace() as made, made.inside():
        ip("link add d0 type veth peer name p0", "link set p0 up", "link set d0 up")
        yield made


def ip(*commands: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)


def found() -> dict[str, DeviceAddress]:
    with RtNetlink() as netlink:
        return {str(ip_address(each.address)): each for each in read_addresses(netlink)}


def test_the_addresses_of_all_devices_are_read_with_what_the_kernel_knows_of_them(namespace: Namespace) -> None:
    ip(
        "addr add 192.0.2.10/24 brd 192.0.2.127 dev d0",
        "addr add 192.0.2.11/24 dev d0",
        "addr add 10.0.0.1 peer 10.0.0.2/32 dev d0",
        "addr add 192.168.1.1/24 scope link dev d0",
        "addr add 2001:db8::7/64 dev d0 nodad",
    )
    addresses, device = found(), namespace.ifindex("d0")
    assert addresses["192.0.2.10"] == DeviceAddress(packed("192.0.2.10"), 24, device, packed("192.0.2.127"))
    assert addresses["192.0.2.11"] == DeviceAddress(packed("192.0.2.11"), 24, device)
    assert addresses["10.0.0.1"] == DeviceAddress(packed("10.0.0.1"), 32, device)
    assert "10.0.0.2" not in addresses
    assert not addresses["192.168.1.1"].is_global
    assert addresses["2001:db8::7"] == DeviceAddress(packed("2001:db8::7"), 64, device)
    assert any(address.startswith("fe80:") and not each.is_global for address, each in addresses.items())
    assert addresses["127.0.0.1"].prefix_bits == 8


class FakeNetlink(RtNetlink):
    def __init__(self, *answers: bytes) -> None:
        self.answers = answers

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        return list(self.answers)


def test_an_address_that_another_host_has_too_is_marked() -> None:
    flags = attribute(IFA_FLAGS, (IFA_F_DADFAILED | 0x200).to_bytes(4, "little"))
    body = attribute(IFA_ADDRESS, packed("2001:db8::7")) + flags
    (only,) = read_addresses(FakeNetlink(IFADDRMSG.pack(socket.AF_INET6, 64, 0, 0, 3) + body))
    assert only.is_duplicate


def test_answers_without_an_address_and_of_other_families_are_passed_over() -> None:
    ours = attribute(IFA_LOCAL, packed("192.0.2.1")) + attribute(IFA_BROADCAST, packed("192.0.2.3"))
    answers = (
        IFADDRMSG.pack(socket.AF_INET, 30, 0, 0, 3),
        IFADDRMSG.pack(6, 30, 0, 0, 3) + ours,
        IFADDRMSG.pack(socket.AF_INET, 30, 0, 0, 3) + ours,
    )
    (only,) = read_addresses(FakeNetlink(*answers))
    assert only == DeviceAddress(packed("192.0.2.1"), 30, 3, packed("192.0.2.3"))


async def test_a_notice_comes_for_each_way_in_which_addresses_change(namespace: Namespace) -> None:
    noticed = asyncio.Event()
    with AddressNotices() as notices:
        watching = asyncio.create_task(notices.watch(noticed.set))
        for command in (
            "addr add 192.0.2.10/24 dev d0",
            "addr del 192.0.2.10/24 dev d0",
            "addr add 2001:db8::7/64 dev d0 nodad",
            "addr del 2001:db8::7/64 dev d0",
            "link add d1 type veth peer name p1",
            "addr add 192.0.2.12/24 dev d1",
            "link del d1",
        ):
            ip(command)
            if command != "link add d1 type veth peer name p1":
                async with asyncio.timeout(30):
                    await noticed.wait()
            noticed.clear()
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching


async def test_notices_that_found_no_room_are_no_end_to_noticing(namespace: Namespace) -> None:
    noticed = asyncio.Event()
    with AddressNotices() as notices:
        notices._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        ip(*(f"addr add 10.0.{each}.1/32 dev d0" for each in range(200)))
        watching = asyncio.create_task(notices.watch(noticed.set))
        async with asyncio.timeout(30):
            await noticed.wait()
        noticed.clear()
        await asyncio.sleep(0)
        ip("addr add 192.0.2.10/24 dev d0")
        async with asyncio.timeout(30):
            await noticed.wait()
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
