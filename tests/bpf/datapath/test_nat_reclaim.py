"""Ports that are taken back where none is free, and how many of them one pod gets."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cilia.abi import maps
from cilia.abi.enums import DropReason
from cilia.abi.kinds import MapKind
from cilia.abi.structs import NatTurn, NatUsage
from tests.bpf.datapath.masquerading import (
    FAMILIES,
    FIRST,
    IDS,
    PORTS,
    idle,
    mappings,
    pass_checks,
    receive,
    renewed,
    router,
    send,
)
from tests.bpf.datapath.packets import echo, tcp, udp
from tests.bpf.datapath.rig import HOST, NODE, SIZES, A, B, Node, Pod, W, mapped, node

EACH_FAMILY = pytest.mark.parametrize(("pod", "world", "host"), FAMILIES, ids=IDS)
QUOTA = 8
LAST_OF_MANY = FIRST + 999
HOUR = 3600.0


@pytest.fixture(scope="module")
def loaded() -> Iterator[Node]:
    with router(nat_quota=QUOTA) as made:
        yield made


@pytest.fixture
def here(loaded: Node) -> Node:
    for pod in (A, B):
        loaded.usage.update(pod.id, NatUsage(0, 0))
    return renewed(loaded)


def fill(here: Node, make: Callable[..., bytes], pod: Pod, world: Pod) -> dict[int, int]:
    """Take every port towards one end; returns port of the pod -> port outside."""
    taken = {port: send(here, make(pod, world, port)) for port in range(1, len(PORTS) + 1)}
    assert set(taken.values()) == PORTS
    return taken


@EACH_FAMILY
@pytest.mark.parametrize(("make", "seconds"), [(udp, 5), (tcp, 10)], ids=["udp", "tcp"])
def test_the_port_of_what_nobody_answers_is_taken_soon(
    here: Node, pod: Pod, world: Pod, host: Pod, make: type, seconds: float
) -> None:
    taken = fill(here, make, pod, world)
    assert send(here, make(pod, world, 9)) == 0
    idle(here, seconds, has_port(3))
    assert send(here, make(pod, world, 9)) == taken[3]
    assert send(here, make(pod, world, 10)) == 0
    assert len(here.nat.items()) == 2 * len(PORTS)


@EACH_FAMILY
def test_an_answered_query_leaves_its_port_within_a_second(here: Node, pod: Pod, world: Pod, host: Pod) -> None:
    taken = fill(here, udp, pod, world)
    for port in (2, 4):
        receive(here, udp(world, host, 53, taken[port]))
    send(here, udp(pod, world, 4))  # a second question, which has no answer yet
    idle(here, 1)
    assert send(here, udp(pod, world, 9)) == taken[2]
    assert send(here, udp(pod, world, 10)) == 0


@EACH_FAMILY
def test_other_datagrams_keep_their_port_for_longer(here: Node, pod: Pod, world: Pod, host: Pod) -> None:
    for port in range(1, len(PORTS) + 1):
        receive(here, udp(world, host, 4433, send(here, udp(pod, world, port, 4433))))
    idle(here, 29)
    assert send(here, udp(pod, world, 9, 4433)) == 0
    idle(here, 1)
    assert send(here, udp(pod, world, 9, 4433)) in PORTS


@EACH_FAMILY
def test_an_established_connection_keeps_its_port_whatever_it_idles(
    here: Node, pod: Pod, world: Pod, host: Pod
) -> None:
    for port in range(1, len(PORTS) + 1):
        outside = send(here, tcp(pod, world, port))
        receive(here, tcp(world, host, 80, outside))
        assert send(here, tcp(pod, world, port, flags="A")) == outside
    idle(here, HOUR)
    assert send(here, tcp(pod, world, 9)) == 0
    assert {key.local_port for key in mappings(here)} == {1, 2, 3, 4}


def test_an_echo_leaves_its_identifier(here: Node) -> None:
    for identifier in range(1, len(PORTS) + 1):
        assert send(here, echo(A, W, identifier=identifier)) in PORTS
    assert send(here, echo(A, W, identifier=9)) == 0
    idle(here, 5)
    assert send(here, echo(A, W, identifier=9)) in PORTS


@EACH_FAMILY
def test_the_one_that_has_idled_longest_goes_first(here: Node, pod: Pod, world: Pod, host: Pod) -> None:
    taken = fill(here, udp, pod, world)
    for port in (2, 4, 1, 3):
        idle(here, 20 + port, has_port(port))
    assert [send(here, udp(pod, world, port)) for port in (9, 10, 11, 12)] == [taken[4], taken[3], taken[2], taken[1]]


def test_a_pod_s_own_idle_port_goes_before_another_s(here: Node) -> None:
    taken = [
        send(here, udp(A, W, 1)),
        send(here, udp(B, W, 1), B),
        send(here, udp(B, W, 2), B),
        send(here, udp(A, W, 2)),
    ]
    assert set(taken) == PORTS
    idle(here, 20)
    idle(here, 20, has_port(2))
    assert send(here, udp(A, W, 9)) == taken[3]
    assert send(here, udp(B, W, 9), B) == taken[2]


def has_port(port: int) -> Callable[[Any], bool]:
    return lambda key: port in key.port


def many_ports(here: Node) -> None:
    here.set_ports(FIRST, LAST_OF_MANY)


@EACH_FAMILY
def test_a_pod_has_no_more_mappings_in_use_than_its_quota_and_others_have_theirs(
    here: Node, pod: Pod, world: Pod, host: Pod
) -> None:
    many_ports(here)
    assert all(send(here, udp(pod, world, port)) for port in range(1, QUOTA + 1))
    while here.events():
        pass
    assert send(here, udp(pod, world, 99)) == 0
    assert here.events()[-1].reason == DropReason.NAT_QUOTA
    assert len(mappings(here)) == QUOTA
    assert send(here, udp(pod, world, 1)), "what it has goes on"
    assert send(here, udp(B, W, 1), B)


@EACH_FAMILY
def test_at_its_quota_a_pod_loses_its_own_that_idle(here: Node, pod: Pod, world: Pod, host: Pod) -> None:
    many_ports(here)
    other = send(here, udp(B, W, 1), B)
    for port in range(1, QUOTA + 1):
        send(here, udp(pod, world, port))
    for port in (2, 3):
        idle(here, 20, has_port(port))
    assert send(here, udp(pod, world, 99))
    assert {key.local_port for key in mappings(here) if key.local != mapped(B.address)} == {1, 4, 5, 6, 7, 8, 99}
    assert send(here, udp(B, W, 1), B) == other
    assert len(here.turns.items()) == len(mappings(here))


@EACH_FAMILY
def test_mappings_that_the_agent_collected_count_no_more(here: Node, pod: Pod, world: Pod, host: Pod) -> None:
    many_ports(here)
    for port in range(1, QUOTA + 1):
        send(here, udp(pod, world, port))
    for key, entry in here.nat.items():
        here.nat.delete(key)
        here.turns.delete(NatTurn(entry.number, entry.endpoint))
    assert all(send(here, udp(pod, world, port)) for port in range(101, 101 + QUOTA))
    assert send(here, udp(pod, world, 200)) == 0


def test_idle_mappings_behind_many_in_use_make_room_before_anything_is_refused() -> None:
    """Half of the quota are connections that never end, all made before the first query."""
    quota = 512
    with router(nat_quota=quota) as here:
        renewed(here)
        many_ports(here)
        for port in range(1, quota // 2):
            outside = send(here, tcp(A, W, port))
            receive(here, tcp(W, Pod(NODE, HOST), 80, outside))
            send(here, tcp(A, W, port, flags="A"))
        refused = []
        for port in range(1000, 1000 + 2 * quota):
            outside = send(here, udp(A, W, port))
            refused += [] if outside else [port]
            receive(here, udp(W, Pod(NODE, HOST), 53, outside))
            idle(here, 2, has_port(port))
        assert refused == []
        assert len([key for key in mappings(here) if key.protocol == 6]) == quota // 2 - 1
        assert len(mappings(here)) <= quota


def test_numbers_wrap(here: Node) -> None:
    many_ports(here)
    here.usage.update(A.id, NatUsage(0xFFFF_FFFD, 0xFFFF_FFFD))
    assert all(send(here, udp(A, W, port)) for port in range(1, QUOTA + 1))
    assert send(here, udp(A, W, 99)) == 0
    idle(here, 20)
    assert all(send(here, udp(A, W, port)) for port in range(101, 101 + QUOTA))
    assert len(mappings(here)) == QUOTA


def test_two_cpus_that_took_the_last_turn_at_once_do_not_lock_a_pod_out(here: Node) -> None:
    many_ports(here)
    here.usage.update(A.id, NatUsage(5, 6))
    assert all(send(here, udp(A, W, port)) for port in range(1, QUOTA + 1))


def test_one_pod_s_queries_by_fresh_ports_go_on_for_ever(here: Node) -> None:
    """Each is answered, and a second passes while as many are sent as the quota has room for."""
    many_ports(here)
    node = Pod(NODE, HOST)
    quiet = send(here, udp(B, W, 7), B)
    for port in range(1000, 1000 + 20 * QUOTA):
        outside = send(here, udp(A, W, port))
        assert receive(here, udp(W, node, 53, outside)) == A.address
        idle(here, 1.1 / QUOTA, lambda key: key.port != (7, 53))
    assert len(here.nat.items()) <= 2 * (QUOTA + 1)
    assert send(here, udp(B, W, 7), B) == quiet


def test_a_full_map_takes_back_what_is_the_pod_s_own() -> None:
    variables = {"masquerades": 1}
    with node(variables=variables, max_entries={**SIZES, "cilia_nat": 64}) as here:
        renewed(here)
        many_ports(here)
        port, sent = 0, 0
        while outside := send(here, udp(A, W, port := port + 1)):
            sent += 1
            assert outside
        assert len(mappings(here)) == sent
        assert here.events()[-1].reason == DropReason.NAT_NO_ROOM
        assert send(here, udp(B, W, 1), B) == 0, "the rest is another's, and in use"
        idle(here, 20)
        assert send(here, udp(A, W, port))
        assert len(mappings(here)) == sent


@EACH_FAMILY
@pytest.mark.parametrize("is_reply", [0, 1])
def test_half_a_mapping_is_made_whole(here: Node, pod: Pod, world: Pod, host: Pod, is_reply: int) -> None:
    """Nothing evicts a half; two CPUs that take one port at the same time may overwrite one."""
    send(here, udp(pod, world, 1))
    for key, _ in here.nat.items():
        if key.is_reply == is_reply:
            here.nat.delete(key)
    pass_checks(here, 1)
    outside = send(here, udp(pod, world, 1))
    assert receive(here, udp(world, host, 53, outside)) == pod.address


def test_a_mapping_whose_port_is_another_s_gets_another(here: Node) -> None:
    outside = send(here, udp(A, W, 1))
    for key, entry in here.nat.items():
        if key.is_reply:
            here.nat.update(key, entry._replace(address=mapped(B.address)))
    pass_checks(here, 1)
    assert send(here, udp(A, W, 1)) in PORTS - {outside}


def test_no_entry_of_the_map_is_ever_evicted() -> None:
    assert maps.NAT.kind is MapKind.HASH


def test_an_entry_that_became_another_s_while_it_was_read_is_not_used(here: Node) -> None:
    """The kernel gives an element to the next entry at once; the tag tells."""
    outside = send(here, udp(A, W, 1))
    for key, entry in here.nat.items():
        here.nat.update(key, entry._replace(tag=entry.tag ^ 2))
    node_frame = udp(W, Pod(NODE, HOST), 53, outside)
    assert receive(here, node_frame) == NODE
    for key, entry in here.nat.items():
        here.nat.update(key, entry._replace(tag=0))
    assert receive(here, node_frame) == A.address, "of an agent that knew no tags"
