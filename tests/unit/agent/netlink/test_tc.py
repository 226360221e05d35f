"""Traffic control over a socket that keeps what it is asked: the bytes as the kernel reads them."""

import errno
import socket
import struct
from collections.abc import Iterator

import pytest

from services.agent.netlink import tc
from services.agent.netlink.rtnetlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, attribute, attributes
from services.agent.netlink.tc import Filter, Side, TcBlocks, TrafficControl


class FakeNetlink:
    """A netlink socket: keeps requests, answers errors and dumps to order."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, bytes]] = []
        self.error = 0
        self.dumps: list[bytes] = []
        self.closed = False

    def call(self, kind: int, flags: int, body: bytes) -> None:
        self.asked.append((kind, flags, body))
        if self.error:
            raise OSError(self.error, "no")

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        self.asked.append((kind, 0, body))
        yield from self.dumps

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def netlink(monkeypatch: pytest.MonkeyPatch) -> FakeNetlink:
    made = FakeNetlink()
    monkeypatch.setattr(tc, "RtNetlink", lambda: made)
    return made


def read(body: bytes) -> tuple[int, int, int, int, dict[int, bytes]]:
    """Return device, handle, parent, info and attributes of a ``struct tcmsg``."""
    family, ifindex, handle, parent, info = struct.unpack_from("=BxxxIIII", body)
    assert family == socket.AF_UNSPEC
    return ifindex, handle, parent, info, attributes(body[20:])


def message(ifindex: int, handle: int, parent: int, info: int, **given: bytes) -> bytes:
    """Return what follows the header of an answer; attributes as ``kind=b"clsact"``."""
    kinds = {"kind": 1, "options": 2, "ingress": 13, "egress": 14}
    return struct.pack("=BxxxIIII", 0, ifindex, handle, parent, info) + b"".join(
        attribute(kinds[name], payload) for name, payload in given.items()
    )


def u32(value: int) -> bytes:
    return struct.pack("=I", value)


def test_a_pods_device_is_bound_to_both_blocks(netlink: FakeNetlink) -> None:
    TrafficControl().bind_to_blocks(7, TcBlocks(0xC111A, 0xC111B))
    ((kind, flags, body),) = netlink.asked
    ifindex, handle, parent, _, given = read(body)
    assert (kind, flags) == (tc.RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL)
    assert (ifindex, handle, parent) == (7, 0xFFFF_0000, 0xFFFF_FFF1)
    assert given == {1: b"clsact\0", 13: u32(0xC111A), 14: u32(0xC111B)}


def test_a_device_that_has_a_qdisc_keeps_it_and_another_error_rises(netlink: FakeNetlink) -> None:
    netlink.error = errno.EEXIST
    TrafficControl().ensure_clsact(7)
    with pytest.raises(FileExistsError):
        TrafficControl().bind_to_blocks(7, TcBlocks(1, 2))
    netlink.error = errno.ENODEV
    with pytest.raises(OSError, match="no"):
        TrafficControl().ensure_clsact(7)


def test_the_filter_of_a_block_runs_the_program_in_direct_action(netlink: FakeNetlink) -> None:
    TrafficControl().replace_block_filter(0xC111A, 5, "from_pod")
    ((kind, flags, body),) = netlink.asked
    ifindex, handle, parent, info, given = read(body)
    assert (kind, flags) == (tc.RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_REPLACE)
    assert (ifindex, handle, parent) == (0xFFFF_FFFF, tc.HANDLE, 0xC111A)
    assert info == 1 << 16 | socket.htons(3)
    assert given[1] == b"bpf\0"
    assert attributes(given[2]) == {6: u32(5), 7: b"from_pod\0", 8: u32(1)}


@pytest.mark.parametrize(("side", "parent"), [(Side.INGRESS, 0xFFFF_FFF2), (Side.EGRESS, 0xFFFF_FFF3)])
def test_the_filter_of_a_device_stands_on_one_side(netlink: FakeNetlink, side: Side, parent: int) -> None:
    TrafficControl().replace_filter(7, side, 5, "to_uplink")
    assert read(netlink.asked[0][2])[:3] == (7, tc.HANDLE, parent)


@pytest.mark.parametrize("error", [0, errno.ENOENT, errno.EINVAL, errno.ENODEV])
def test_a_filter_of_ours_that_is_gone_needs_no_removal(netlink: FakeNetlink, error: int) -> None:
    netlink.error = error
    TrafficControl().delete_filter(7, Side.INGRESS)
    ifindex, handle, parent, info, given = read(netlink.asked[0][2])
    assert (ifindex, handle, parent, info, given) == (7, tc.HANDLE, Side.INGRESS, tc.INFO, {1: b"bpf\0"})


def test_a_removal_that_the_kernel_refuses_rises(netlink: FakeNetlink) -> None:
    netlink.error = errno.EPERM
    with pytest.raises(PermissionError):
        TrafficControl().delete_filter(7, Side.INGRESS)


def test_devices_and_their_blocks_are_listed_and_other_qdiscs_are_not(netlink: FakeNetlink) -> None:
    netlink.dumps = [
        message(7, 0, 0, 0, kind=b"clsact\0", ingress=u32(0xC111A), egress=u32(0xC111B)),
        message(8, 0, 0, 0, kind=b"clsact\0"),
        message(9, 0, 0, 0, kind=b"fq_codel\0"),
    ]
    assert TrafficControl().bound_blocks() == {7: (0xC111A, 0xC111B), 8: (0, 0)}


def test_filters_of_a_block_are_listed_with_their_programs(netlink: FakeNetlink) -> None:
    ours = attribute(11, u32(42))
    netlink.dumps = [
        message(0xFFFF_FFFF, 0, 0xC111A, tc.INFO, kind=b"bpf\0"),  # the chain's head, without options
        message(0xFFFF_FFFF, tc.HANDLE, 0xC111A, tc.INFO, kind=b"bpf\0", options=ours),
        message(0xFFFF_FFFF, 1, 0xC111A, 5 << 16, kind=b"matchall\0", options=attribute(1, u32(0))),
    ]
    found = TrafficControl().block_filters(0xC111A)
    assert found == [Filter("bpf", tc.INFO, tc.HANDLE, 42), Filter("matchall", 5 << 16, 1, 0)]
    assert [each.is_ours for each in found] == [True, False]
    assert str(found[1]) == "a matchall filter of priority 5 with program 0"


def test_a_foreign_filter_is_removed_by_its_own_kind_and_handle(netlink: FakeNetlink) -> None:
    TrafficControl().delete_block_filter(0xC111A, Filter("matchall", 5 << 16, 1, 0))
    ifindex, handle, parent, info, given = read(netlink.asked[0][2])
    assert (ifindex, handle, parent, info) == (0xFFFF_FFFF, 1, 0xC111A, 5 << 16)
    assert given == {1: b"matchall\0"}
    netlink.error = errno.ENOENT
    TrafficControl().delete_block_filter(0xC111A, Filter("matchall", 5 << 16, 1, 0))


def test_the_qdisc_goes_with_all_of_its_filters(netlink: FakeNetlink) -> None:
    with TrafficControl() as control:
        control.delete_clsact(7)
    assert read(netlink.asked[0][2])[:3] == (7, tc.CLSACT_HANDLE, tc.TC_H_CLSACT)
    assert netlink.closed
