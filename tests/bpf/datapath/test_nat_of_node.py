"""Ports and identifiers of the node itself: no pod's mapping takes one, or keeps one."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tests.bpf.datapath.masquerading import (
    FAMILIES,
    FIRST,
    IDS,
    LAST,
    PORTS,
    mappings,
    pass_checks,
    receive,
    renewed,
    router,
    send,
)
from tests.bpf.datapath.packets import echo, error, tcp, udp
from tests.bpf.datapath.rig import A6, A, Node, Pod, W

KINDS = [(socket.SOCK_STREAM, tcp), (socket.SOCK_DGRAM, udp)]
BOTH = pytest.mark.parametrize(("kind", "make"), KINDS, ids=["tcp", "udp"])
EACH_FAMILY = pytest.mark.parametrize(("pod", "world", "host"), FAMILIES, ids=IDS)


@pytest.fixture(scope="module")
def loaded() -> Iterator[Node]:
    with router() as made:
        yield made


@pytest.fixture
def here(loaded: Node) -> Node:
    return renewed(loaded)


@contextmanager
def bound(here: Node, kind: socket.SocketKind, *ports: int) -> Iterator[None]:
    """Have sockets of the node bound to ports, of all addresses, for the block."""
    with here.namespace.inside():
        opened = [socket.socket(socket.AF_INET6, kind) for _ in ports]
    try:
        for each, port in zip(opened, ports, strict=True):
            each.bind(("::", port))
            if kind == socket.SOCK_STREAM:
                each.listen()
        yield
    finally:
        for each in opened:
            each.close()


@EACH_FAMILY
@BOTH
def test_a_flow_takes_no_port_that_a_socket_of_the_node_has(
    here: Node, pod: Pod, world: Pod, host: Pod, kind: socket.SocketKind, make: type
) -> None:
    with bound(here, kind, *(PORTS - {LAST})):
        assert send(here, make(pod, world, 1)) == LAST
        assert send(here, make(pod, world, 2)) == 0, "no port is left"
        assert receive(here, make(world, host, 53 if make is udp else 80, FIRST)) == host.address
    assert send(here, make(pod, world, 2)) in PORTS - {LAST}


@EACH_FAMILY
def test_ports_of_tcp_and_of_udp_are_apart(here: Node, pod: Pod, world: Pod, host: Pod) -> None:
    with bound(here, socket.SOCK_STREAM, *PORTS):
        assert send(here, udp(pod, world, 1)) in PORTS
        assert send(here, tcp(pod, world, 1)) == 0


def test_a_socket_that_is_connected_elsewhere_does_not_hold_its_port(here: Node) -> None:
    with here.namespace.inside(), closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as opened:
        opened.bind(("", FIRST))
        opened.connect(("127.0.0.1", 9))
        assert {send(here, udp(A, W, port)) for port in range(1, 5)} == PORTS


@EACH_FAMILY
def test_who_connects_to_a_port_that_listens_since_reaches_the_node(
    here: Node, pod: Pod, world: Pod, host: Pod
) -> None:
    port = send(here, tcp(pod, world, 1, 40_000, "S"))
    syn, more = tcp(world, host, 40_000, port, "S"), tcp(world, host, 40_000, port, "A")
    assert receive(here, syn) == pod.address
    with bound(here, socket.SOCK_STREAM, port):
        assert receive(here, more) == pod.address, "a connection that goes on is no reason"
        assert receive(here, syn) == host.address
        assert (
            here.run("to_uplink", tcp(host, world, port, 40_000, "SA"), "uplink").packet[14:]
            == (tcp(host, world, port, 40_000, "SA")[14:])
        )
        assert receive(here, more) == host.address, "the node's answer has taken the port from the pod"
        assert send(here, tcp(pod, world, 1, 40_000, "S")) in PORTS - {port}


@EACH_FAMILY
@BOTH
def test_the_node_s_own_packet_takes_the_port_from_a_pod(
    here: Node, pod: Pod, world: Pod, host: Pod, kind: socket.SocketKind, make: type
) -> None:
    port = send(here, make(pod, world, 1, 53))
    assert receive(here, make(world, host, 53, port)) == pod.address
    sent = make(host, world, port, 53)
    assert here.run("to_uplink", sent, "uplink").packet == sent
    assert receive(here, make(world, host, 53, port)) == host.address
    assert here.nat.items() == []
    assert here.turns.items() == []


@EACH_FAMILY
def test_a_reset_and_an_error_of_the_node_take_nothing(here: Node, pod: Pod, world: Pod, host: Pod) -> None:
    port = send(here, tcp(pod, world, 1))
    here.run("to_uplink", tcp(host, world, port, 80, "RA"), "uplink")
    kind = 3 if pod is A else 1
    about = tcp(world, host, 80, port)
    here.run("to_uplink", error(host, world, about, kind=kind), "uplink")
    assert receive(here, about) == pod.address


@EACH_FAMILY
def test_a_datagram_reaches_a_socket_that_was_bound_since_within_a_second(
    here: Node, pod: Pod, world: Pod, host: Pod
) -> None:
    port = send(here, udp(pod, world, 1))
    with bound(here, socket.SOCK_DGRAM, port):
        pass_checks(here, 1)
        assert receive(here, udp(world, host, 53, port)) == host.address
        assert send(here, udp(pod, world, 1)) in PORTS - {port}


@EACH_FAMILY
def test_a_pod_that_goes_on_sending_keeps_no_port_that_a_socket_has(
    here: Node, pod: Pod, world: Pod, host: Pod
) -> None:
    port = send(here, udp(pod, world, 1))
    with bound(here, socket.SOCK_DGRAM, port):
        pass_checks(here, 1)
        assert send(here, udp(pod, world, 1)) in PORTS - {port}
        assert receive(here, udp(world, host, 53, port)) == host.address


@EACH_FAMILY
def test_an_echo_of_the_node_keeps_its_identifier(here: Node, pod: Pod, world: Pod, host: Pod) -> None:
    for identifier in PORTS:
        sent = echo(host, world, identifier=identifier)
        assert here.run("to_uplink", sent, "uplink").packet == sent
    assert send(here, echo(pod, world)) == 0
    for identifier in PORTS:
        answer = echo(world, host, kind=0, identifier=identifier)
        assert receive(here, answer) == host.address
    pass_checks(here, 10)
    assert send(here, echo(pod, world)) in PORTS, "a while later nobody waits for an answer"


@EACH_FAMILY
def test_an_echo_of_the_node_takes_the_identifier_from_a_pod(here: Node, pod: Pod, world: Pod, host: Pod) -> None:
    identifier = send(here, echo(pod, world))
    here.run("to_uplink", echo(host, world, identifier=identifier), "uplink")
    assert receive(here, echo(world, host, kind=0, identifier=identifier)) == host.address
    assert send(here, echo(pod, world)) in PORTS - {identifier}


def test_the_node_s_packets_from_other_ports_are_not_looked_at(here: Node) -> None:
    node = FAMILIES[0][2]
    for identifier in (FIRST - 1, LAST + 1):
        here.run("to_uplink", echo(node, W, identifier=identifier), "uplink")
    here.run("to_uplink", echo(node, W, kind=0, identifier=FIRST), "uplink")
    assert here.nat.items() == []


def test_ports_from_before_a_change_of_the_range_are_looked_at_still(here: Node) -> None:
    node = FAMILIES[0][2]
    port = send(here, tcp(A, W, 1))
    here.set_ports(6000, 6001, FIRST, 6001)
    assert send(here, tcp(A, W, 1)) == port, "what there is goes on"
    assert send(here, tcp(A, W, 2)) in {6000, 6001}
    here.run("to_uplink", tcp(node, W, port, 80, "S"), "uplink")
    assert receive(here, tcp(W, node, 80, port, "SA")) == node.address
    assert len(mappings(here)) == 1


def test_no_range_is_no_port(here: Node) -> None:
    here.set_ports(0, 0)
    assert send(here, tcp(A, W, 1)) == 0
    assert send(here, tcp(A6, FAMILIES[1][1], 1)) == 0
