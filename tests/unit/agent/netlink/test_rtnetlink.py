"""Attributes and their padding, and a socket that answers each request of a batch for itself."""

import errno
import socket
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.agent.netlink.requests import RTM_GETLINK, RTM_NEWLINK, delete_link, sync_link_state
from services.agent.netlink.rtnetlink import (
    BATCH,
    DUMP_ATTEMPTS,
    HEADER,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    RtNetlink,
    attribute,
    attributes,
)

LOOPBACK = 1
NOBODY = 2**31 - 1
NLM_F_MULTI = 2


def test_an_attribute_is_padded_to_four_bytes_and_says_its_own_length() -> None:
    assert attribute(3, b"eth0\0") == b"\x09\x00\x03\x00eth0\0\0\0\0"
    assert attribute(3, b"") == b"\x04\x00\x03\x00"


@given(st.dictionaries(st.integers(0, 0x3FFF), st.binary(max_size=40), max_size=10))
def test_attributes_are_read_back(given_attributes: dict[int, bytes]) -> None:
    packed = b"".join(attribute(kind, payload) for kind, payload in given_attributes.items())
    assert len(packed) % 4 == 0
    assert attributes(packed) == given_attributes


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x01\x00\x02\x00", b"\x00\x00\x00\x00abcd"])
def test_what_is_no_attribute_ends_the_reading(payload: bytes) -> None:
    assert attributes(payload) == {}


@given(st.binary(max_size=64))
def test_no_bytes_make_the_reading_fail(payload: bytes) -> None:
    attributes(payload)


def test_each_request_of_a_batch_has_an_error_of_its_own() -> None:
    with RtNetlink() as netlink:
        found = netlink.call_many([sync_link_state(LOOPBACK), sync_link_state(NOBODY), sync_link_state(LOOPBACK)])
    assert found == [0, errno.ENODEV, 0]


def test_more_requests_than_fit_into_one_batch_are_answered_in_order() -> None:
    odd = [sync_link_state(LOOPBACK if each % 2 else NOBODY) for each in range(2 * BATCH + 3)]
    with RtNetlink() as netlink:
        assert netlink.call_many(odd) == [0 if each % 2 else errno.ENODEV for each in range(2 * BATCH + 3)]
        assert netlink.call_many([]) == []


def test_a_single_request_raises_the_kernels_answer() -> None:
    with RtNetlink() as netlink:
        netlink.call(*sync_link_state(LOOPBACK))
        with pytest.raises(OSError, match="No such device") as caught:
            netlink.call(*sync_link_state(NOBODY))
    assert caught.value.errno == errno.ENODEV


def test_a_dump_is_read_to_its_end_and_the_socket_goes_on() -> None:
    body = sync_link_state(0).body
    with RtNetlink() as netlink:
        first = [int.from_bytes(payload[4:8], "little") for payload in netlink.dump(RTM_GETLINK, body)]
        again = [int.from_bytes(payload[4:8], "little") for payload in netlink.dump(RTM_GETLINK, body)]
    assert LOOPBACK in first
    assert first == again
    assert socket.if_nametoindex("lo") == LOOPBACK


def test_a_device_that_is_not_there_cannot_be_removed() -> None:
    with RtNetlink() as netlink:
        (error,) = netlink.call_many([delete_link("no-such-device")])
    assert error in (errno.ENODEV, errno.EPERM)


class ChangingKernel:
    """A socket behind which something changes during the first dumps, as the kernel's flag says."""

    def __init__(self, disturbed: int) -> None:
        self.disturbed = disturbed
        self.dumps = 0
        self._sequence = 0

    def send(self, request: bytes) -> None:
        _, _, _, self._sequence, _ = HEADER.unpack_from(request)
        self.dumps += 1

    def recv(self, _size: int) -> bytes:
        flags = NLM_F_MULTI | (NLM_F_DUMP_INTR if self.dumps <= self.disturbed else 0)
        answer, end = b"dump%04d" % self.dumps, bytes(4)
        return b"".join(
            HEADER.pack(HEADER.size + len(payload), kind, flags, self._sequence, 0) + payload
            for kind, payload in ((RTM_NEWLINK, answer), (NLMSG_DONE, end))
        )

    def close(self) -> None:
        pass


def test_a_dump_during_which_something_changed_is_repeated() -> None:
    with RtNetlink() as netlink:
        netlink._socket.close()
        netlink._socket = cast(socket.socket, ChangingKernel(disturbed=2))
        assert netlink.dump(RTM_GETLINK, b"") == [b"dump0003"]


def test_a_dump_that_is_always_disturbed_is_an_error() -> None:
    kernel = ChangingKernel(disturbed=1000)
    with RtNetlink() as netlink:
        netlink._socket.close()
        netlink._socket = cast(socket.socket, kernel)
        with pytest.raises(BlockingIOError, match="changed all the time"):
            netlink.dump(RTM_GETLINK, b"")
    assert kernel.dumps == DUMP_ATTEMPTS
