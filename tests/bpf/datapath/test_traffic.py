"""Real packets between pods in namespaces of their own: on one node, and on two nodes joined by
VXLAN.
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

import pytest
from pyroute2.netlink.exceptions import NetlinkError
from scapy.layers.inet import ICMP

from cilia.abi.enums import DropReason, Hook
from cilia.datapath.features import has_tcx
from cilia.datapath.links import AttachType, Link
from tests.bpf.datapath.namespace import Namespace
from tests.bpf.datapath.rig import (
    EGRESS,
    GATEWAY,
    INGRESS,
    NODE,
    OTHER_NODE,
    A,
    B,
    Node,
    Pod,
    node,
    populate,
)

FAR = Pod("10.2.0.10", 1003, 1, 1, bytes.fromhex("02cc00000003"), "lxc1")
FAR_GATEWAY = "10.2.0.1"
NEW_ADDRESS = "192.0.2.77"
ALLOWED_SECONDS = 5.0
DENIED_SECONDS = 0.4


class Wired(NamedTuple):
    """A node with its pods' namespaces, in the order in which the pods were given."""

    node: Node
    pods: list[Namespace]


@contextmanager
def wired(ipv4: str, gateway: str, *pods: Pod) -> Iterator[Wired]:
    """Give each pod a namespace with an address and a route by the gateway, and put the programs in
    their places.
    """
    with ExitStack() as stack:
        here = stack.enter_context(node(ipv4=ipv4, gateway=gateway, pods=pods))
        namespaces = []
        for pod in pods:
            inside = stack.enter_context(Namespace())
            namespaces.append(inside)
            move(here, pod, inside, gateway)
            attach(here, stack, "from_pod", AttachType.TCX_INGRESS, pod.device)
            attach(here, stack, "to_pod", AttachType.TCX_EGRESS, pod.device)
            here.namespace.netlink.link("set", index=here.devices[pod.device], state="up")
            here.namespace.netlink.route("add", dst=f"{pod.address}/32", oif=here.devices[pod.device], scope=253)
        attach(here, stack, "from_overlay", AttachType.TCX_INGRESS, "overlay")
        here.namespace.netlink.link("set", index=here.devices["overlay"], state="up")
        here.namespace.netlink.addr("add", index=1, address=gateway, prefixlen=32)
        yield Wired(here, namespaces)


def move(here: Node, pod: Pod, inside: Namespace, gateway: str) -> None:
    peer = here.namespace.ifindex(f"p{pod.device}")
    here.namespace.netlink.link("set", index=peer, net_ns_fd=inside.fileno(), address=pod.mac.hex(":"))
    index = inside.ifindex(f"p{pod.device}")
    inside.netlink.addr("add", index=index, address=pod.address, prefixlen=32)
    inside.netlink.link("set", index=index, state="up")
    inside.netlink.route("add", dst=f"{gateway}/32", oif=index, scope=253)
    inside.netlink.route("add", dst="0.0.0.0/0", gateway=gateway, oif=index)


def attach(here: Node, stack: ExitStack, program: str, hook: AttachType, device: str) -> None:
    loaded, ifindex = here.objects.program(program), here.devices[device]
    if not has_tcx():
        parent = "ffff:fff2" if hook is AttachType.TCX_INGRESS else "ffff:fff3"
        with suppress(NetlinkError):  # has one
            here.namespace.netlink.tc("add", "clsact", ifindex)
        options = {"fd": loaded.fileno(), "name": program, "direct_action": True, "parent": parent}
        here.namespace.netlink.tc("add-filter", "bpf", ifindex, **options)
        return
    with here.namespace.inside():
        link = Link.attach(loaded, hook, ifindex)
    stack.callback(link.close)


@pytest.fixture(scope="module")
def alone() -> Iterator[Wired]:
    """A node with A and B, which allow TCP 80, UDP 53 and ping from A to B, and A to reach the
    host.
    """
    with wired(NODE, GATEWAY, A, B) as here:
        populate(here.node)
        for protocol, port in ((6, 80), (17, 53), (1, 8)):
            here.node.allow(A, EGRESS, B.identity, protocol, port)
            here.node.allow(B, INGRESS, A.identity, protocol, port)
        here.node.allow(A, EGRESS, 1, 1, 8)
        yield here


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Wired, Wired]]:
    """Two nodes; FAR's ingress allows A on TCP 80 and ping, and A's egress FAR."""
    with wired(NODE, GATEWAY, A) as near, wired(OTHER_NODE, FAR_GATEWAY, FAR) as far:
        for one, pod, address in ((near, A, NODE), (far, FAR, OTHER_NODE)):
            one.node.add_pod(pod)
            one.node.realise(pod.slot)
            one.node.locate(pod.address, pod.identity)
            plug(one.node, far.node, address)
        near.node.locate(FAR.address, FAR.identity, OTHER_NODE)
        far.node.block("10.1.0.0/24", NODE)
        near.node.allow(A, EGRESS, FAR.identity)
        for protocol, port in ((6, 80), (1, 8)):
            far.node.allow(FAR, INGRESS, A.identity, protocol, port)
        yield near, far


def plug(one: Node, far: Node, address: str) -> None:
    """Give a node its end of the wire between the two; the first call lays it."""
    name = "wire" if one is not far else "wirefar"
    if one is not far:
        one.namespace.netlink.link("add", ifname=name, kind="veth", peer={"ifname": "wirefar"})
        index = one.namespace.ifindex("wirefar")
        one.namespace.netlink.link("set", index=index, net_ns_fd=far.namespace.fileno())
    index = one.namespace.ifindex(name)
    one.namespace.netlink.addr("add", index=index, address=address, prefixlen=24)
    one.namespace.netlink.link("set", index=index, state="up")


def exchanged(
    client: Namespace,
    server: Namespace,
    address: str,
    port: int,
    kind: int = socket.SOCK_STREAM,
    *,
    seconds: float = ALLOWED_SECONDS,
) -> bool:
    """Tell whether 100 KiB (UDP: a datagram) get there, and an answer back."""
    with server.inside():
        listener = socket.socket(socket.AF_INET, kind)
    with client.inside():
        caller = socket.socket(socket.AF_INET, kind)
    with listener, caller:
        listener.settimeout(seconds)
        caller.settimeout(seconds)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        try:
            if kind == socket.SOCK_DGRAM:
                return _datagram(caller, listener, address, port)
            return _stream(caller, listener, address, port)
        except TimeoutError:
            return False


def _stream(caller: socket.socket, listener: socket.socket, address: str, port: int) -> bool:
    listener.listen()
    caller.connect((address, port))
    accepted, _ = listener.accept()
    with accepted:
        accepted.settimeout(ALLOWED_SECONDS)
        caller.sendall(bytes(100 << 10))
        missing = 100 << 10
        while missing:
            missing -= len(accepted.recv(missing))
        accepted.sendall(b"done")
        return caller.recv(4) == b"done"


def _datagram(caller: socket.socket, listener: socket.socket, address: str, port: int) -> bool:
    caller.sendto(b"asked", (address, port))
    _, client = listener.recvfrom(16)
    listener.sendto(b"done", client)
    return caller.recv(16) == b"done"


def answers_ping(client: Namespace, address: str, *, seconds: float = ALLOWED_SECONDS) -> bool:
    with client.inside():
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with raw:
        raw.settimeout(seconds)
        raw.sendto(bytes(ICMP(type=8, id=4242, seq=1)), (address, 0))
        try:
            while raw.recv(2048)[20:24][0] != 0:
                pass
        except TimeoutError:
            return False
        return True


def test_pods_of_one_node_talk_as_far_as_policy_allows_it(alone: Wired) -> None:
    client, server = alone.pods
    assert exchanged(client, server, B.address, 80)
    assert exchanged(client, server, B.address, 53, socket.SOCK_DGRAM)
    assert answers_ping(client, B.address)
    assert not exchanged(client, server, B.address, 81, seconds=DENIED_SECONDS)
    assert not exchanged(server, client, A.address, 80, seconds=DENIED_SECONDS)


def test_the_host_answers_a_ping_that_policy_allows(alone: Wired) -> None:
    client, server = alone.pods
    assert answers_ping(client, GATEWAY)
    assert not answers_ping(server, GATEWAY, seconds=DENIED_SECONDS)


def test_an_established_connection_ends_with_the_rule_that_allowed_it(alone: Wired) -> None:
    client, server = alone.pods
    assert exchanged(client, server, B.address, 80)
    alone.node.realise(B.slot, 2, entry_set=1)
    assert not exchanged(client, server, B.address, 80, seconds=DENIED_SECONDS)
    alone.node.realise(B.slot, 3, entry_set=0)
    assert exchanged(client, server, B.address, 80)


def test_pods_of_two_nodes_talk_as_far_as_policy_allows_it(pair: tuple[Wired, Wired]) -> None:
    near, far = pair
    assert exchanged(near.pods[0], far.pods[0], FAR.address, 80)
    assert answers_ping(near.pods[0], FAR.address)
    assert not exchanged(near.pods[0], far.pods[0], FAR.address, 81, seconds=DENIED_SECONDS)


def test_the_senders_identity_crosses_the_wire(pair: tuple[Wired, Wired]) -> None:
    near, far = pair
    while far.node.events():
        pass
    exchanged(near.pods[0], far.pods[0], FAR.address, 81, seconds=DENIED_SECONDS)
    denied = next(event for event in far.node.events() if event.family == 4)
    assert (denied.reason, denied.identity) == (DropReason.POLICY_DENIED, (A.identity, FAR.identity))


def test_a_flow_that_came_by_the_overlay_outlives_a_change_while_the_ipcache_does_not_know_its_sender(
    pair: tuple[Wired, Wired],
) -> None:
    near, far = pair
    assert answers_ping(near.pods[0], FAR.address)
    far.node.realise(FAR.slot, 5)
    assert answers_ping(near.pods[0], FAR.address)


def test_an_answer_of_a_known_flow_counts_only_from_the_node_that_the_ipcache_has_its_sender_behind(
    pair: tuple[Wired, Wired],
) -> None:
    near, far = pair
    far.node.allow(FAR, INGRESS, A.identity, 17, 53)
    with far.pods[0].inside():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with near.pods[0].inside():
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with server, client:
        for one in (server, client):
            one.settimeout(ALLOWED_SECONDS)
        server.bind((FAR.address, 53))
        client.sendto(b"asked", (FAR.address, 53))
        _, asker = server.recvfrom(16)
        near.node.locate(FAR.address, FAR.identity, NEW_ADDRESS)
        near.node.renew(FAR.address)
        refused = near.node.counted(DropReason.UNKNOWN_SENDER, Hook.FROM_OVERLAY)
        server.sendto(b"too early", asker)
        near.node.locate(FAR.address, FAR.identity, OTHER_NODE)
        near.node.renew(FAR.address)
        server.sendto(b"done", asker)
        assert client.recv(16) == b"done"
    assert near.node.counted(DropReason.UNKNOWN_SENDER, Hook.FROM_OVERLAY) == refused + 1
