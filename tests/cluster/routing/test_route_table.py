"""Routes in a real kernel: written in batches, found again by their protocol number, and nobody
else's touched.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv4Network, ip_network

import pytest

from cilia.netns import inside
from laboratory.namespaces import create_namespace, delete_namespace
from services.agent.routes.desired import NEXT_HOP, Network, Route
from services.agent.routes.table import RouteTable, is_as_wanted

NAMESPACE = f"cilia-routes-{os.getpid()}"


def ip(arguments: str) -> str:
    return subprocess.run(
        ["ip", "-n", NAMESPACE, *arguments.split()], check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def table() -> Iterator[RouteTable]:
    """A node with a device 192.0.2.1/24 and 2001:db8::1/64."""
    create_namespace(NAMESPACE)
    try:
        ip("link add one type veth peer name other")
        ip("addr add 192.0.2.1/24 dev one")
        ip("link set other up")
        ip("link set one up")
        ip("addr add 2001:db8::1/64 dev one nodad")
        with inside(f"/run/netns/{NAMESPACE}"):
            table = RouteTable()
        yield table
        table.close()
    finally:
        delete_namespace(NAMESPACE)


def device() -> int:
    return int(ip("-o link show one").split(":")[0])


def test_routes_of_both_families_are_read_as_they_were_written(table: RouteTable) -> None:
    overlay = {ip_network("10.1.0.0/26"): Route(NEXT_HOP[4], device(), "192.0.2.1", onlink=True)}
    native = {
        ip_network("10.2.0.0/26"): Route("192.0.2.9"),
        ip_network("fd00:2::/120"): Route("2001:db8::9"),
    }
    assert table.write(overlay | native).refused == {}
    present = table.read()
    assert present.keys() == overlay.keys() | native.keys()
    assert all(is_as_wanted(present[network], wanted) for network, wanted in (overlay | native).items())
    assert "proto 193" in ip("route show 10.1.0.0/26")


def test_an_overlay_route_of_ipv6_needs_no_address_on_the_device(table: RouteTable) -> None:
    network = ip_network("fd00:1::/120")
    wanted = Route(NEXT_HOP[6], device(), "2001:db8::1", onlink=True)
    assert table.write({network: wanted}).refused == {}
    assert is_as_wanted(table.read()[network], wanted)


def test_routes_that_others_made_are_neither_read_nor_removed(table: RouteTable) -> None:
    ip("route add 10.3.0.0/26 via 192.0.2.8")
    assert table.read() == {}
    assert table.write({ip_network("10.3.0.0/26"): None}).refused == {}, "there is none of ours; that is fine"
    assert "192.0.2.8" in ip("route show 10.3.0.0/26")


def test_a_route_moves_in_one_step_and_goes(table: RouteTable) -> None:
    network = ip_network("10.2.0.0/26")
    table.write({network: Route("192.0.2.9")})
    assert table.write({network: Route("192.0.2.10")}).refused == {}
    assert [route.gateway for route in table.read().values()] == ["192.0.2.10"]
    assert table.write({network: None}).refused == {}
    assert table.read() == {}


def test_what_the_kernel_refuses_is_named_and_the_rest_is_written(table: RouteTable) -> None:
    good, bad = ip_network("10.2.0.0/26"), ip_network("10.4.0.0/26")
    refused = table.write({bad: Route("203.0.113.1"), good: Route("192.0.2.9")}).refused
    assert refused == {bad: "Network is unreachable"}
    assert table.read().keys() == {good}


def test_thousands_of_routes_take_a_fraction_of_a_second(table: RouteTable) -> None:
    blocks = list(IPv4Network("10.0.0.0/8").subnets(new_prefix=21))[:5000]
    wanted: dict[Network, Route | None] = dict.fromkeys(blocks, Route("192.0.2.9"))
    began = time.perf_counter()
    assert table.write(wanted).refused == {}
    written = time.perf_counter()
    assert table.read().keys() == wanted.keys()
    read = time.perf_counter()
    assert written - began < 2, "a batch of 64 takes under a millisecond"
    assert read - written < 2
    print(f"5000 routes: written in {written - began:.3f} s, read in {read - written:.3f} s")
