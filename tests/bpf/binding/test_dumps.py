"""Dumps of a real kernel whose devices come and go meanwhile: whole, or repeated."""

import subprocess
from collections.abc import Iterator

import pytest

from services.agent.netlink.queries import read_links
from services.agent.netlink.requests import delete_link, new_local_veth
from services.agent.netlink.rtnetlink import Message, RtNetlink
from tests.bpf.datapath.namespace import Namespace

PAIRS = 150


class DisturbedNetlink(RtNetlink):
    """A socket beside which a device comes and goes during the first two dumps."""

    def __init__(self) -> None:
        super().__init__()
        self._other = RtNetlink()
        self._changes = [new_local_veth("late0", peer="late1", mtu_bytes=1500), delete_link("first0")]
        self.datagrams = 0

    def _receive(self) -> Iterator[Message]:
        messages = list(super()._receive())
        self.datagrams += 1
        if self._changes:
            self._other.call(*self._changes.pop(0))
        return iter(messages)

    def close(self) -> None:
        super().close()
        self._other.close()


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with Namespace() as made:
        with made.inside():
            commands = "".join(f"link add a{each} type veth peer name b{each}\n" for each in range(PAIRS))
            batch = f"link add first0 type veth peer name first1\n{commands}"
            subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)
        yield made


def test_devices_that_come_and_go_during_a_dump_leave_it_whole(namespace: Namespace) -> None:
    with namespace.inside(), DisturbedNetlink() as netlink:
        found = {link.name for link in read_links(netlink).values()}
    assert netlink.datagrams > 2, "the dump is too short to be disturbed"
    pairs = {f"{side}{each}" for side in "ab" for each in range(PAIRS)}
    assert found == {"lo", "late0", "late1", *pairs}
