"""TCP that is first seen without SYN: either end may have begun it, so both must be allowed to."""

import pytest

from cilia.abi.enums import CtState, DropReason
from tests.bpf.datapath.packets import tcp
from tests.bpf.datapath.rig import A6, B6, EGRESS, INGRESS, TC_ACT_REDIRECT, TC_ACT_SHOT, A, B, Node, Pod
from tests.bpf.datapath.test_revocation import (
    allow_client,
    allow_server,
    close_ingress,
    passes,
    segments,
)

FAMILIES = [pytest.param((A, B), id="IPv4"), pytest.param((A6, B6), id="IPv6")]


@pytest.mark.parametrize("ends", FAMILIES)
@pytest.mark.parametrize("flags", ["A", "PA", "SA", "FA", "R", "FS", ""])
def test_a_server_takes_no_forgotten_connection_up_whose_client_is_not_allowed(
    here: Node, ends: tuple[Pod, Pod], flags: str
) -> None:
    allow_server(here)
    client, server = ends
    segment = tcp(server, client, 80, 40000, flags=flags or "U")
    assert here.run("from_pod", segment, "lxc2").retval == TC_ACT_SHOT
    assert here.events()[0].reason == DropReason.CT_MIDWAY
    assert not here.flows.items()
    assert not here.flows6.items()
    assert here.run("from_pod", segments(*ends)[0], "lxc1").retval == TC_ACT_SHOT


def test_a_client_takes_none_up_that_only_it_may_begin(here: Node) -> None:
    allow_client(here)
    assert here.run("from_pod", segments(A, B)[0], "lxc1").retval == TC_ACT_SHOT
    assert here.events()[0].reason == DropReason.CT_MIDWAY
    assert here.run("from_pod", tcp(A, B), "lxc1").retval == TC_ACT_REDIRECT


@pytest.mark.parametrize("ends", FAMILIES)
@pytest.mark.parametrize("first", [0, 1], ids=["client", "server"])
def test_a_forgotten_connection_goes_on_where_either_end_might_have_begun_it(
    here: Node, ends: tuple[Pod, Pod], first: int
) -> None:
    allow_client(here)
    allow_server(here)
    packets = segments(*ends)
    assert here.run("from_pod", packets[first], f"lxc{first + 1}").retval == TC_ACT_REDIRECT
    assert passes(here, packets) == (True, True)
    _, entry = here.flow() if ends == (A, B) else here.flow6()
    assert entry.state & CtState.MIDWAY


@pytest.mark.parametrize("first", [0, 1], ids=["client", "server"])
def test_one_that_was_taken_up_ends_when_either_way_is_denied(here: Node, first: int) -> None:
    allow_client(here)
    allow_server(here)
    packets = segments(A, B)
    here.run("from_pod", packets[first], f"lxc{first + 1}")
    allow_again = close_ingress(here)
    assert passes(here, packets) == (False, False)
    allow_again()
    assert passes(here, packets) == (True, True)


def test_a_syn_settles_who_began(here: Node) -> None:
    allow_client(here)
    allow_server(here)
    here.run("from_pod", segments(A, B)[1], "lxc2")
    assert here.run("from_pod", tcp(A, B), "lxc1").retval == TC_ACT_REDIRECT
    _, entry = here.flow()
    assert (entry.initiator, entry.state & CtState.MIDWAY) == (0, 0)


def test_rules_about_ports_are_asked_with_the_port_of_either_end(here: Node) -> None:
    here.allow(A, EGRESS, B.identity, 6, 80)
    here.allow(B, INGRESS, A.identity, 6, 80)
    here.allow(B, EGRESS, A.identity, 6, 40000)
    here.allow(A, INGRESS, B.identity, 6, 40000)
    assert here.run("from_pod", tcp(A, B, 40001, flags="A"), "lxc1").retval == TC_ACT_SHOT
    assert here.run("from_pod", tcp(A, B, 40000, flags="A"), "lxc1").retval == TC_ACT_REDIRECT
