"""Addresses of the node itself: all are the host's, none comes from outside; and those that no
single host has.
"""

import pytest

from cilia.abi.enums import DropReason, EventKind, Hook, HostAddressKind
from tests.bpf.datapath.packets import advertisement, echo, error, tcp, udp
from tests.bpf.datapath.rig import (
    A6,
    EGRESS,
    GATEWAY,
    GATEWAY6,
    HOST,
    INGRESS,
    NODE,
    NODE6,
    OTHER_NODE,
    TC_ACT_OK,
    TC_ACT_SHOT,
    TC_ACT_UNSPEC,
    W6,
    WORLD,
    A,
    B,
    Node,
    Pod,
    R,
    W,
    node,
    populate,
)

SECOND, SECOND6, LINK_LOCAL = Pod("192.0.2.50", HOST), Pod("2001:db8::50", HOST), Pod("fe80::50", HOST)
OWN = {
    "the node's": (Pod(NODE, HOST), A, W),
    "the node's of IPv6": (Pod(NODE6, HOST), A6, W6),
    "the gateway": (Pod(GATEWAY, HOST), A, W),
    "the gateway of IPv6": (Pod(GATEWAY6, HOST), A6, W6),
    "another": (SECOND, A, W),
    "another of IPv6": (SECOND6, A6, W6),
}
TUNNEL_PORT = 8472


@pytest.fixture(autouse=True)
def second_addresses(here: Node) -> None:
    here.own(SECOND.address, SECOND6.address, LINK_LOCAL.address)
    here.own("192.0.2.255", kind=HostAddressKind.BROADCAST)


@pytest.mark.parametrize(("own", "pod"), [(own, pod) for own, pod, _ in OWN.values()], ids=OWN)
def test_whatever_address_of_the_node_a_pod_talks_to_is_the_host(here: Node, own: Pod, pod: Pod) -> None:
    here.allow(pod, EGRESS, identity=WORLD)
    here.allow(pod, EGRESS, identity=HOST, deny=True)
    assert here.run("from_pod", tcp(pod, own, flags="S"), "lxc1").retval == TC_ACT_SHOT
    (event,) = here.events()
    assert (event.reason, event.identity) == (DropReason.DENIED_BY_RULE, (pod.identity, HOST))


@pytest.mark.parametrize(("own", "pod"), [(own, pod) for own, pod, _ in OWN.values()], ids=OWN)
def test_whatever_address_the_host_talks_from_it_is_the_host(here: Node, own: Pod, pod: Pod) -> None:
    here.allow(pod, INGRESS, identity=HOST)
    assert here.run("to_pod", tcp(own, pod, flags="S"), "lxc1").retval == TC_ACT_OK
    (event,) = here.events()
    assert (event.reason, event.identity) == (0, (HOST, pod.identity))


def test_an_address_that_the_node_has_no_more_is_the_worlds_again(here: Node) -> None:
    here.allow(A, EGRESS, identity=HOST)
    assert here.run("from_pod", tcp(A, SECOND, flags="S"), "lxc1").retval == TC_ACT_OK
    here.disown(SECOND.address)
    here.renew(SECOND.address)
    assert here.run("from_pod", tcp(A, SECOND), "lxc1").retval == TC_ACT_SHOT
    assert [event.identity[1] for event in here.events()] == [HOST, WORLD]


@pytest.mark.parametrize(("own", "pod", "world"), OWN.values(), ids=OWN)
def test_no_address_of_the_node_comes_from_outside(here: Node, own: Pod, pod: Pod, world: Pod) -> None:
    here.allow(pod, INGRESS)
    for frame in (tcp(own, pod, flags="S"), udp(own, pod), echo(own, pod), tcp(own, world), udp(own, own)):
        assert here.run("from_uplink", frame, "uplink").retval == TC_ACT_SHOT
        (event,) = here.events()
        assert event.reason == DropReason.OWN_SOURCE
    assert not here.flows.items()
    assert not here.flows6.items()


@pytest.mark.parametrize(("own", "pod"), [(own, pod) for own, pod, _ in OWN.values()], ids=OWN)
def test_nor_does_it_in_a_flow_that_the_host_has_with_a_pod(here: Node, own: Pod, pod: Pod) -> None:
    here.allow(pod, INGRESS, identity=HOST)
    assert here.run("to_pod", udp(own, pod), "lxc1").retval == TC_ACT_OK
    assert here.run("from_uplink", udp(own, pod), "uplink").retval == TC_ACT_SHOT
    assert [event.reason for event in here.events()] == [0, DropReason.OWN_SOURCE]


def test_what_isnt_a_flows_packet_is_asked_for_its_source_all_the_same(here: Node) -> None:
    frame = bytearray(udp(SECOND, Pod(NODE, HOST)))
    frame[14 + 9] = 89  # OSPF
    assert here.run("from_uplink", bytes(frame), "uplink").retval == TC_ACT_SHOT
    assert [event.reason for event in here.events()] == [DropReason.OWN_SOURCE]


def test_who_has_an_own_address_too_can_say_so(here: Node) -> None:
    claim = advertisement(SECOND6)
    assert here.run("from_uplink", claim, "uplink").retval == TC_ACT_UNSPEC
    assert here.events() == []


def test_others_reach_the_host_by_its_uplink(here: Node) -> None:
    for frame in (tcp(W, Pod(NODE, HOST)), udp(Pod(OTHER_NODE, 6), SECOND), tcp(W6, SECOND6), tcp(W6, LINK_LOCAL)):
        assert here.run("from_uplink", frame, "uplink").retval == TC_ACT_UNSPEC
    assert here.events() == []


@pytest.mark.parametrize(
    "ends", [("127.0.0.5", NODE), ("192.0.2.9", "127.0.0.1"), ("::1", NODE6), ("2001:db8::9", "::1")]
)
def test_nothing_of_the_loopback_device_comes_by_the_uplink(here: Node, ends: tuple[str, str]) -> None:
    source, target = (Pod(address, 0) for address in ends)
    assert here.run("from_uplink", udp(source, target), "uplink").retval == TC_ACT_SHOT
    assert [event.reason for event in here.events()] == [DropReason.MARTIAN]


def test_what_the_node_says_to_itself_by_the_loopback_device_goes_on(here: Node) -> None:
    for ends in (("127.0.0.1", "127.0.0.1"), (NODE, NODE), ("::1", "::1"), (NODE6, NODE6)):
        source, target = (Pod(address, HOST) for address in ends)
        assert here.run("from_uplink", udp(source, target), "lo").retval == TC_ACT_UNSPEC
    assert here.events() == []


MARTIANS = (
    *("0.0.0.0", "0.1.2.3", "127.0.0.1", "127.9.9.9", "224.0.0.1", "224.0.0.251", "239.1.2.3"),
    *("240.0.0.1", "255.255.255.254", "255.255.255.255", "192.0.2.255"),
    *("::", "::1", "fe80::1", "febf::1", "ff02::1", "ff02::fb", "ff05::2", "ff0e::1"),
)


@pytest.mark.parametrize("address", MARTIANS)
def test_a_pod_sends_to_no_address_that_no_single_host_has(here: Node, address: str) -> None:
    pod = A6 if ":" in address else A
    here.allow(pod, EGRESS)
    assert here.run("from_pod", udp(pod, Pod(address, 0)), "lxc1").retval == TC_ACT_SHOT
    (event,) = here.events()
    assert (event.kind, event.reason) == (EventKind.DROP, DropReason.MARTIAN)


@pytest.mark.parametrize("address", MARTIANS)
def test_a_pod_gets_nothing_from_such_an_address(here: Node, address: str) -> None:
    pod = A6 if ":" in address else A
    here.allow(pod, INGRESS)
    assert here.run("to_pod", udp(Pod(address, 0), pod), "lxc1").retval == TC_ACT_SHOT
    (event,) = here.events()
    assert (event.kind, event.reason) == (EventKind.DROP, DropReason.MARTIAN)


@pytest.mark.parametrize("address", ["1.0.0.1", "126.255.255.255", "128.0.0.1", "169.254.169.254", "223.255.255.255"])
def test_its_neighbours_are_like_any_other(here: Node, address: str) -> None:
    here.allow(A, EGRESS, identity=WORLD)
    assert here.run("from_pod", udp(A, Pod(address, 0)), "lxc1").retval == TC_ACT_OK


@pytest.mark.parametrize("is_native", [0, 1], ids=["overlay", "native"])
def test_a_pod_sends_to_no_tunnel_in_whatever_state_the_flow_is(is_native: int) -> None:
    with node(variables={"is_native": is_native}, has_overlay=not is_native) as here:
        populate(here)
        here.allow(A, EGRESS)
        here.allow(A, INGRESS)
        here.allow(B, INGRESS)
        host = Pod(NODE, HOST)
        for target in (host, Pod(OTHER_NODE, 6), R, W, B):
            assert here.run("from_pod", udp(A, target, dport=TUNNEL_PORT), "lxc1").retval == TC_ACT_SHOT
        assert here.run("to_pod", udp(host, A, sport=TUNNEL_PORT, dport=40000), "lxc1").retval == TC_ACT_OK
        assert here.run("from_pod", udp(A, host, 40000, TUNNEL_PORT), "lxc1").retval == TC_ACT_SHOT
        reasons = [event.reason for event in here.events()]
        assert reasons == [*[DropReason.ENCAP_PROHIBITED] * 5, 0, DropReason.ENCAP_PROHIBITED]
        assert here.counted(DropReason.ENCAP_PROHIBITED, Hook.FROM_POD) == 6


def test_an_error_about_an_own_address_is_the_hosts(here: Node) -> None:
    here.allow(A, EGRESS, identity=HOST)
    asked = udp(A, SECOND)
    assert here.run("from_pod", asked, "lxc1").retval == TC_ACT_OK
    assert here.run("to_pod", error(SECOND, A, asked), "lxc1").retval == TC_ACT_OK
