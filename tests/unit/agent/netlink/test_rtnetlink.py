"""Attributes and their padding, and a socket that answers each request of a batch for itself."""

import errno
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.agent.netlink.requests import RTM_GETLINK, delete_link, sync_link_state
from services.agent.netlink.rtnetlink import BATCH, RtNetlink, attribute, attributes

LOOPBACK = 1
NOBODY = 2**31 - 1


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
