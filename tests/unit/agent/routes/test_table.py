"""Routes on the wire: requests as a kernel parses them, dumps as it answers, errors by route."""

import errno
import socket
from collections.abc import Iterator, Sequence
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.agent.netlink.rtnetlink import NLM_F_CREATE, NLM_F_REPLACE, Request, attribute, attributes
from services.agent.routes import table as module
from services.agent.routes.desired import Network, Route
from services.agent.routes.table import (
    PROTOCOL,
    RTA_DST,
    RTA_GATEWAY,
    RTM_DELROUTE,
    RTM_GETROUTE,
    RTM_NEWROUTE,
    RTMSG,
    RouteTable,
    is_as_wanted,
)

BLOCK, BLOCK6 = ip_network("10.1.1.0/26"), ip_network("fd00:1::/120")
BOOT = 3
"""Protocol number of somebody else's routes."""


class KernelNetlink:
    """Routing table of a kernel behind the socket; keeps routes as the bytes of their requests."""

    def __init__(self) -> None:
        self.routes: dict[tuple[int, bytes, int], bytes] = {}
        self.unreachable: set[bytes] = set()
        self.flags: set[int] = set()
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def call_many(self, requests: Sequence[Request]) -> list[int]:
        return [self._call(request) for request in requests]

    def _call(self, request: Request) -> int:
        family, length = RTMSG.unpack_from(request.body)[:2]
        found = attributes(request.body[RTMSG.size :])
        key = family, found[RTA_DST], length
        if request.kind == RTM_DELROUTE:
            return 0 if self.routes.pop(key, None) else errno.ESRCH
        assert request.kind == RTM_NEWROUTE
        self.flags.add(request.flags)
        if found[RTA_GATEWAY] in self.unreachable:
            return errno.ENETUNREACH
        self.routes[key] = request.body
        return 0

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        assert kind == RTM_GETROUTE
        family = RTMSG.unpack_from(body)[0]
        yield from (payload for (of, _, _), payload in self.routes.items() if of == family)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> KernelNetlink:
    made = KernelNetlink()
    monkeypatch.setattr(module, "RtNetlink", lambda: made)
    return made


def test_routes_of_both_families_are_read_as_they_were_written(kernel: KernelNetlink) -> None:
    table = RouteTable()
    routes: dict[Network, Route] = {
        BLOCK: Route("169.254.1.1", 7, "10.1.0.1", onlink=True),
        BLOCK6: Route("2001:db8::9"),
    }
    assert table.write(dict(routes)).refused == {}
    assert table.read() == routes
    assert kernel.flags == {NLM_F_CREATE | NLM_F_REPLACE}
    table.write({BLOCK: None})
    assert table.read().keys() == {BLOCK6}


addresses4 = st.integers(0, 2**32 - 1)


@given(
    st.dictionaries(
        st.builds(lambda address, length: ip_network((address, length), strict=False), addresses4, st.integers(1, 32)),
        st.builds(
            Route, st.ip_addresses(v=4).map(str), st.integers(0, 99), st.just("") | st.just("10.1.0.1"), st.booleans()
        ),
    )
)
def test_any_routes_come_back_as_they_were_written(routes: dict[Network, Route]) -> None:
    kernel = KernelNetlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "RtNetlink", lambda: kernel)
        table = RouteTable()
    table.write(dict(routes))
    assert table.read() == routes


def test_routes_of_others_are_not_ours(kernel: KernelNetlink) -> None:
    head = RTMSG.pack(socket.AF_INET, 26, 0, 0, 254, BOOT, 0, 1, 0)
    kernel.routes[socket.AF_INET, BLOCK.network_address.packed, 26] = head + attribute(
        RTA_DST, BLOCK.network_address.packed
    )
    assert RouteTable().read() == {}


def test_a_route_of_ours_without_a_gateway_is_read_too(kernel: KernelNetlink) -> None:
    head = RTMSG.pack(socket.AF_INET, 0, 0, 0, 254, PROTOCOL, 0, 6, 0)
    kernel.routes[socket.AF_INET, b"", 0] = head
    assert RouteTable().read() == {ip_network("0.0.0.0/0"): Route("")}


def test_each_refused_route_has_its_reason_and_the_others_are_made(kernel: KernelNetlink) -> None:
    kernel.unreachable.add(bytes((192, 0, 2, 9)))
    result = RouteTable().write({BLOCK: Route("192.0.2.9"), BLOCK6: Route("2001:db8::9")})
    assert (result.refused, result.full) == ({BLOCK: "Network is unreachable"}, "")
    assert len(kernel.routes) == 1


def test_a_route_that_is_gone_already_is_removed(kernel: KernelNetlink) -> None:
    assert RouteTable().write({BLOCK: None}).refused == {}


def test_the_socket_is_given_back(kernel: KernelNetlink) -> None:
    RouteTable().close()
    assert kernel.closed


@pytest.mark.parametrize(
    ("present", "wanted", "same"),
    [
        (Route("192.0.2.2", 5), Route("192.0.2.2"), True),
        (Route("192.0.2.2", 5), Route("192.0.2.2", 5), True),
        (Route("192.0.2.2", 5), Route("192.0.2.2", 6), False),
        (Route("192.0.2.2", 5), Route("192.0.2.3"), False),
        (Route("192.0.2.2", 5, "10.1.0.1"), Route("192.0.2.2"), False),
        (Route("192.0.2.2", 5, onlink=True), Route("192.0.2.2"), False),
    ],
)
def test_a_wanted_route_may_leave_the_device_open_and_nothing_else(present: Route, wanted: Route, same: bool) -> None:
    assert is_as_wanted(present, wanted) is same
