"""Pods' links over a kernel in memory: the order of steps, and what a refusal undoes."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from services.agent.endpoint import veth as module
from services.agent.endpoint.stages import link_of
from services.agent.endpoint.veth import PodLink, PodLinks, random_mac
from services.agent.errors import InterfaceTaken, LinkFailed
from services.agent.netlink import requests, tc
from services.agent.netlink.rtnetlink import Request
from services.agent.netlink.tc import TcBlocks
from tests.unit.agent.endpoint.test_store import pod

NAMES = {
    requests.RTM_NEWLINK: "new",
    requests.RTM_DELLINK: "delete",
    requests.RTM_GETLINK: "sync",
    requests.RTM_SETLINK: "set",
    requests.RTM_NEWADDR: "address",
    requests.RTM_NEWROUTE: "route",
    requests.RTM_NEWNEIGH: "neighbour",
    tc.RTM_NEWQDISC: "bind",
}
LINK = link_of(replace(pod(1), netns="/run/netns/web"), 1450)
DUAL = link_of(replace(pod(1), netns="/run/netns/web", ipv6="fd00::2", gateway_ipv6="fd00::1"), 1450)


class Kernel:
    """Devices of the node and of one pod; refuses to order.

    Attributes:
        journal: Steps as ``where: what``.
        refuse: Step -> errno that the kernel answers.
    """

    def __init__(self) -> None:
        self.inside = False
        self.devices: dict[tuple[bool, str], int] = {}
        self.journal: list[str] = []
        self.refuse: dict[str, int] = {}

    def answer(self, where: str, kind: int) -> int:
        step = f"{where}: {NAMES[kind]}"
        self.journal.append(step)
        error = self.refuse.get(step, 0)
        if kind == requests.RTM_NEWLINK and not error:
            self.devices |= {(False, "lxc1"): 11, (True, "eth0"): 12}
        if kind == requests.RTM_DELLINK:
            error = 0 if self.devices.pop((False, "lxc1"), 0) else errno.ENODEV
            if not error:
                self.devices.pop((True, "eth0"))
        return self.refuse.get(step, error)


class FakeNetlink:
    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._where = "pod" if kernel.inside else "node"

    def call_many(self, asked: Sequence[Request]) -> list[int]:
        return [self._kernel.answer(self._where, request.kind) for request in asked]

    def close(self) -> None:
        self._kernel.journal.append(f"{self._where}: close")


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()

    @contextmanager
    def inside(_path: str) -> Iterator[None]:
        made.inside = True
        yield
        made.inside = False

    @contextmanager
    def open_netns(_path: str) -> Iterator[int]:
        yield 5

    monkeypatch.setattr(module, "inside", inside)
    monkeypatch.setattr(module, "open_netns", open_netns)
    monkeypatch.setattr(module, "RtNetlink", lambda: FakeNetlink(made))
    monkeypatch.setattr(module, "ifindex", lambda name: made.devices.get((made.inside, name), 0))
    monkeypatch.setattr(Path, "write_text", lambda self, text: made.journal.append(f"pod: {self.name}={text}"))
    return made


def links(kernel: Kernel) -> PodLinks:
    made = PodLinks(TcBlocks(1, 2))
    kernel.journal.clear()
    return made


def test_programs_are_attached_before_the_pod_can_send_and_the_pods_end_comes_up_last(kernel: Kernel) -> None:
    assert links(kernel).connect(LINK) == 11
    assert kernel.journal == [
        "node: delete",
        "node: new",
        "node: set",
        "node: bind",
        "node: set",
        "node: route",
        "node: neighbour",
        "pod: set",
        "pod: set",
        "pod: address",
        "pod: set",
        "pod: neighbour",
        "pod: route",
        "node: sync",
        "pod: close",
    ]


def test_a_pod_of_both_families_gets_an_address_a_neighbour_and_a_route_of_each(kernel: Kernel) -> None:
    links(kernel).connect(DUAL)
    inside = [step for step in kernel.journal if step.startswith("pod:")]
    assert inside.count("pod: address") == inside.count("pod: neighbour") == inside.count("pod: route") == 2
    assert kernel.journal.count("node: route") == 2


def test_ipv6_is_switched_on_only_where_the_pod_has_it(kernel: Kernel) -> None:
    made = links(kernel)
    made.connect(LINK)
    assert not any("=" in step for step in kernel.journal)
    made.connect(DUAL)
    assert [step for step in kernel.journal if "=" in step] == ["pod: disable_ipv6=0", "pod: accept_ra=0"]


def test_a_device_of_the_pod_that_has_the_wanted_name_is_left_alone(kernel: Kernel) -> None:
    kernel.devices[True, "eth0"] = 99
    made = links(kernel)
    kernel.devices[False, "other"] = 3
    with pytest.raises(InterfaceTaken, match="has a device 'eth0' already"):
        made.connect(LINK)
    assert "node: new" not in kernel.journal


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("node: new", "creation of eth0 in /run/netns/web"),
        ("node: set", "configuration of lxc1 in the host"),
        ("node: bind", "attachment of lxc1 in the host"),
        ("node: route", "configuration of lxc1 in the host"),
        ("pod: address", "configuration of eth0 in /run/netns/web"),
        ("pod: route", "configuration of eth0 in /run/netns/web"),
        ("node: sync", "configuration of lxc1 in the host"),
    ],
)
def test_a_step_that_the_kernel_refuses_is_named_and_the_link_is_removed(kernel: Kernel, step: str, said: str) -> None:
    made = links(kernel)
    kernel.refuse = {step: errno.EPERM}
    with pytest.raises(LinkFailed, match=said):
        made.connect(LINK)
    assert kernel.devices == {}
    assert kernel.journal[-2:] == ["node: delete", "pod: close"]


def test_a_link_of_that_name_is_replaced(kernel: Kernel) -> None:
    made = links(kernel)
    made.connect(LINK)
    made.connect(LINK)
    assert kernel.journal.count("node: new") == 2
    assert made.ifindex("lxc1") == 11


def test_a_link_that_is_gone_needs_no_removal_and_another_answer_is_an_error(kernel: Kernel) -> None:
    made = links(kernel)
    made.disconnect("lxc1")
    kernel.refuse = {"node: delete": errno.EBUSY}
    with pytest.raises(LinkFailed, match="removal of lxc1 in the host"):
        made.disconnect("lxc1")


def test_the_socket_is_given_back(kernel: Kernel) -> None:
    links(kernel).close()
    assert kernel.journal == ["node: close"]


def test_a_random_mac_is_local_and_unicast() -> None:
    macs = {random_mac() for _ in range(100)}
    assert len(macs) == 100
    for mac in macs:
        first, *rest = mac.split(":")
        assert (int(first, 16) & 3, len(rest)) == (2, 5)


def test_a_link_has_what_its_pod_has() -> None:
    assert PodLink("/run/netns/web", "eth0", pod(1).mac, (("10.1.0.2", "10.1.0.1"),), "lxc1", 1450) == LINK
