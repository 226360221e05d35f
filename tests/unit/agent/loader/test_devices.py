"""Devices of the node over a netlink in memory: what exists is kept, what isn't wanted goes."""

import errno
import os
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from services.agent.errors import LinkFailed
from services.agent.loader import devices as module
from services.agent.loader.devices import HOST, NET, VXLAN, NodeDevices, ensure_devices
from services.agent.netlink.queries import Link
from services.agent.netlink.requests import IFF_NOARP, IFF_UP, RTM_DELLINK, RTM_NEWLINK
from services.agent.netlink.rtnetlink import Request, attributes
from services.agent.netlink.tc import RTM_NEWQDISC, TCA_EGRESS_BLOCK, TCA_INGRESS_BLOCK, TCMSG, TcBlocks
from tests.unit.agent.netlink.test_requests import read

BLOCKS = TcBlocks(0xC111A, 0xC111B)
UNDERLAY = "192.0.2.1"


class Kernel:
    """Devices of a node, made and set by requests as pyroute2 reads them.

    Attributes:
        links: Name -> its index and what was given with it.
        no_link_local: Devices that got no link-local address.
        refuse: Errno that the kernel answers to every request; 0: none.
    """

    def __init__(self, **mtus: int) -> None:
        self.links: dict[str, dict[str, Any]] = {}
        self.bound: dict[int, dict[int, bytes]] = {}
        self.no_link_local: list[int] = []
        self.refuse = 0
        for name, mtu in mtus.items():
            self.add(name, mtu=mtu)
        self.addresses = {UNDERLAY: "eth0"}

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add(self, name: str, **given: Any) -> None:
        self.links[name] = {"index": len(self.links) + 1, **given}

    def index(self, name: str) -> int:
        return int(self.links.get(name, {"index": 0})["index"])

    def device_of(self, _netlink: object, address: str) -> int:
        return self.index(self.addresses.get(address, ""))

    def read_links(self, _netlink: object) -> dict[int, Link]:
        return {link["index"]: Link(name, link["mtu"]) for name, link in self.links.items() if "mtu" in link}

    def call(self, kind: int, flags: int, body: bytes) -> None:
        if self.refuse:
            raise OSError(self.refuse, os.strerror(self.refuse))
        if kind == RTM_NEWQDISC:
            self.bind(body)
            return
        link = read(ifinfmsg, Request(kind, flags, body))
        if kind == RTM_NEWLINK:
            self.make(link)
        elif kind == RTM_DELLINK:
            del self.links[link.get("ifname")]
        else:
            self.set(link)

    def bind(self, body: bytes) -> None:
        ifindex = int.from_bytes(body[4:8], "little")
        if ifindex in self.bound:
            raise FileExistsError
        self.bound[ifindex] = attributes(body[TCMSG.size :])

    def make(self, link: Any) -> None:
        kind, data = link.get("linkinfo").get("kind"), link.get("linkinfo").get("data")
        given = {"mtu": link.get("mtu")} if link.get("mtu") else {}
        self.add(link.get("ifname"), kind=kind, data=data, **given)
        if kind == "veth":
            peer = data.get_attr("VETH_INFO_PEER")
            self.add(peer.get("ifname"), kind=kind, mtu=peer.get("mtu"))

    def set(self, link: Any) -> None:
        found = next(each for each in self.links.values() if each["index"] == link["index"])
        found["flags"] = found.get("flags", 0) & ~link["change"] | link["flags"] & link["change"]
        if link.get("mtu"):
            found["mtu"] = link.get("mtu")
        if link.get("af_spec"):
            self.no_link_local.append(link["index"])


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel(lo=65_536, eth0=1500, eth1=9000)
    monkeypatch.setattr(module, "RtNetlink", lambda: made)
    monkeypatch.setattr(module, "ifindex", made.index)
    monkeypatch.setattr(module, "device_of", made.device_of)
    monkeypatch.setattr(module, "read_links", made.read_links)
    return made


def ensure(*uplinks: str, vxlan_port: int | None = 8472) -> NodeDevices:
    return ensure_devices(underlay_ipv4=UNDERLAY, uplinks=uplinks, vxlan_port=vxlan_port, blocks=BLOCKS)


def test_a_new_node_gets_its_pair_and_its_overlay(kernel: Kernel) -> None:
    found = ensure()
    assert found == NodeDevices(
        host=kernel.index(HOST),
        net=kernel.index(NET),
        vxlan=kernel.index(VXLAN),
        uplinks=(kernel.index("eth0"),),
        mtu_bytes=1450,
    )
    vxlan = kernel.links[VXLAN]
    options = {name: vxlan["data"].get(name) for name in ("vxlan_port", "vxlan_collect_metadata", "vxlan_learning")}
    assert (vxlan["kind"], *options.values()) == ("vxlan", 8472, 1, 0)
    assert vxlan["flags"] == IFF_UP | IFF_NOARP
    bound = kernel.bound[found.net]
    assert (bound[TCA_INGRESS_BLOCK], bound[TCA_EGRESS_BLOCK]) == tuple(each.to_bytes(4, "little") for each in BLOCKS)
    assert len(kernel.bound) == 1


def test_all_devices_are_up_with_the_pods_mtu_and_without_link_local_addresses(kernel: Kernel) -> None:
    found = ensure()
    for name in (HOST, NET, VXLAN):
        assert (kernel.links[name]["mtu"], kernel.links[name]["flags"] & IFF_UP) == (1450, IFF_UP)
    assert kernel.no_link_local == [found.host, found.net, found.vxlan]
    assert "flags" not in kernel.links["eth0"]


def test_what_exists_is_found_again(kernel: Kernel) -> None:
    first = ensure()
    count = len(kernel.links)
    assert ensure() == first
    assert len(kernel.links) == count


def test_native_routing_has_the_underlays_mtu_and_removes_an_overlay(kernel: Kernel) -> None:
    ensure()
    found = ensure(vxlan_port=None)
    assert (found.vxlan, found.mtu_bytes) == (0, 1500)
    assert VXLAN not in kernel.links
    assert kernel.links[HOST]["mtu"] == 1500


def test_named_uplinks_replace_the_underlays_device(kernel: Kernel) -> None:
    found = ensure("eth1", "eth0")
    assert found.uplinks == (kernel.index("eth1"), kernel.index("eth0"))
    assert found.mtu_bytes == 1450


def test_the_loopback_devices_odd_mtu_is_rounded(kernel: Kernel) -> None:
    kernel.addresses = {UNDERLAY: "lo"}
    assert ensure(vxlan_port=None).mtu_bytes == 65_535


def test_an_underlay_address_that_no_device_has_is_named(kernel: Kernel) -> None:
    kernel.addresses = {}
    with pytest.raises(LinkFailed, match=r"the device with address 192\.0\.2\.1"):
        ensure()
    assert HOST not in kernel.links


def test_an_uplink_that_is_not_there_is_named_with_its_setting(kernel: Kernel) -> None:
    with pytest.raises(LinkFailed, match=r"'eth9'.*setting 'uplinks'"):
        ensure("eth0", "eth9")


def test_a_device_that_the_kernel_refuses_is_an_error_of_ours_with_its_reason(kernel: Kernel) -> None:
    kernel.refuse = errno.EOPNOTSUPP
    with pytest.raises(LinkFailed, match=r"creation of cilia_.*Operation not supported"):
        ensure()
