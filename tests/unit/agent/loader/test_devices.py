"""Devices of the node over a netlink in memory: what exists is kept, what isn't wanted goes."""

from typing import Any

import pytest

from services.agent.errors import LinkFailed
from services.agent.loader import devices as module
from services.agent.loader.devices import HOST, IFF_NOARP, NET, VXLAN, NodeDevices, ensure_devices
from services.agent.netlink.requests import RTM_SETLINK
from services.agent.netlink.tc import TcBlocks

BLOCKS = TcBlocks(0xC111A, 0xC111B)
UNDERLAY = "192.0.2.1"


class Kernel:
    """Devices of a node: name -> what they were made of, and what was set."""

    def __init__(self, **mtus: int) -> None:
        self.links: dict[str, dict[str, Any]] = {}
        self.bound: dict[int, tuple[int, int]] = {}
        self.requests: list[tuple[int, int]] = []
        for name, mtu in mtus.items():
            self.add(name, mtu=mtu)
        self.addresses = {UNDERLAY: "eth0"}

    def add(self, name: str, **given: Any) -> None:
        self.links[name] = {"index": len(self.links) + 1, **given}

    def index(self, name: str) -> int:
        return int(self.links[name]["index"])

    # pyroute2

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def link_lookup(self, ifname: str) -> list[int]:
        return [self.index(ifname)] if ifname in self.links else []

    def get_addr(self, address: str) -> list[dict[str, int]]:
        name = self.addresses.get(address)
        return [{"index": self.index(name)}] if name else []

    def get_links(self, ifindex: int) -> list[dict[str, Any]]:
        return [link for link in self.links.values() if link["index"] == ifindex]

    def link(self, action: str, **given: Any) -> None:
        if action == "add":
            peer = given.pop("peer", None)
            self.add(given.pop("ifname"), **given)
            if peer:
                self.add(peer.pop("ifname"), **peer)
            return
        name = next(name for name, link in self.links.items() if link["index"] == given["index"])
        if action == "del":
            del self.links[name]
        else:
            self.links[name].update(given)

    # requests and traffic control

    def call(self, kind: int, _flags: int, body: bytes) -> None:
        self.requests.append((kind, int.from_bytes(body[4:8], "little")))

    def bind_to_blocks(self, ifindex: int, blocks: TcBlocks) -> None:
        if ifindex in self.bound:
            raise FileExistsError
        self.bound[ifindex] = (blocks.ingress, blocks.egress)

    def close(self) -> None:
        pass


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel(lo=65_536, eth0=1500, eth1=9000)
    for name in ("IPRoute", "RtNetlink", "TrafficControl"):
        monkeypatch.setattr(module, name, lambda: made)
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
    assert (vxlan["kind"], vxlan["vxlan_port"], vxlan["vxlan_collect_metadata"]) == ("vxlan", 8472, True)
    assert vxlan["flags"] == vxlan["change"] == IFF_NOARP
    assert kernel.bound == {found.net: BLOCKS}


def test_all_devices_are_up_with_the_pods_mtu_and_without_link_local_addresses(kernel: Kernel) -> None:
    found = ensure()
    for name in (HOST, NET, VXLAN):
        assert (kernel.links[name]["mtu"], kernel.links[name]["state"]) == (1450, "up")
    assert kernel.requests == [(RTM_SETLINK, index) for index in (found.host, found.net, found.vxlan)]
    assert "state" not in kernel.links["eth0"]


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
