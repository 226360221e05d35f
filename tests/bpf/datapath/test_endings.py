"""A connection ends by what both ends show, not by what anybody may forge."""

import pytest

from cilia.abi.enums import CtState
from cilia.abi.structs import CtEntry
from services.agent.config import TimeoutConfig
from services.agent.conntrack.gc import lifetime_seconds
from tests.bpf.datapath.packets import tcp
from tests.bpf.datapath.rig import A6, B6, EGRESS, INGRESS, TC_ACT_REDIRECT, A, B, Node, Pod

TIMEOUTS = TimeoutConfig()
CLIENT, SERVER = 1000, 500_000
"""Sequence numbers of the next byte that either end sends."""
FAR = 1 << 24


class Connection:
    """An established connection on a node."""

    def __init__(self, here: Node, ends: tuple[Pod, Pod]) -> None:
        self.here, self.ends = here, ends
        here.allow(A, EGRESS)
        here.allow(B, INGRESS)
        self.client("S", CLIENT - 1)
        self.server("SA", SERVER - 1, CLIENT)
        self.client("A", CLIENT, SERVER)
        self.server("A", SERVER, CLIENT)

    def client(self, flags: str, seq: int, ack: int = 0) -> None:
        packet = tcp(*self.ends, flags=flags, seq=seq % 2**32, ack=ack % 2**32)
        assert self.here.run("from_pod", packet, "lxc1").retval == TC_ACT_REDIRECT

    def server(self, flags: str, seq: int, ack: int = 0) -> None:
        client, server = self.ends
        packet = tcp(server, client, 80, 40000, flags=flags, seq=seq % 2**32, ack=ack % 2**32)
        assert self.here.run("from_pod", packet, "lxc2").retval == TC_ACT_REDIRECT

    @property
    def entry(self) -> CtEntry:
        return (self.here.flow() if self.ends == (A, B) else self.here.flow6())[1]

    @property
    def is_closed(self) -> bool:
        seconds = lifetime_seconds(6, self.entry, TIMEOUTS)
        assert seconds in (TIMEOUTS.closing_seconds, TIMEOUTS.tcp_seconds)
        return seconds == TIMEOUTS.closing_seconds


@pytest.fixture(params=[(A, B), (A6, B6)], ids=["IPv4", "IPv6"])
def connection(here: Node, request: pytest.FixtureRequest) -> Connection:
    return Connection(here, request.param)


def test_a_connection_is_open_until_it_ends(connection: Connection) -> None:
    assert not connection.is_closed


@pytest.mark.parametrize("offset", [FAR, -FAR, 1 << 31, 1 << 16, -1, -60_000])
def test_a_reset_outside_of_what_the_other_end_expects_closes_nothing(connection: Connection, offset: int) -> None:
    connection.server("R", SERVER + offset)
    connection.client("R", CLIENT + offset)
    assert not connection.is_closed


@pytest.mark.parametrize("offset", [0, 1, 1448, 60_000])
def test_a_reset_that_the_other_end_expects_closes(connection: Connection, offset: int) -> None:
    connection.server("RA", SERVER + offset, CLIENT)
    assert connection.is_closed


def test_a_reset_after_which_the_connection_goes_on_was_none(connection: Connection) -> None:
    connection.server("R", SERVER)
    assert connection.is_closed
    connection.client("PA", CLIENT, SERVER)
    assert not connection.is_closed


def test_a_connection_is_refused_by_a_reset_to_its_syn(here: Node) -> None:
    here.allow(A, EGRESS)
    here.allow(B, INGRESS)
    here.run("from_pod", tcp(A, B, seq=77), "lxc1")
    here.run("from_pod", tcp(B, A, 80, 40000, flags="RA", seq=0, ack=78), "lxc2")
    assert here.flow()[1].state & CtState.RESET


def test_two_fins_that_are_acknowledged_close(connection: Connection) -> None:
    connection.client("FA", CLIENT, SERVER)
    assert not connection.is_closed
    connection.server("FA", SERVER, CLIENT + 1)
    connection.client("A", CLIENT + 1, SERVER + 1)
    assert connection.is_closed


def test_a_fin_far_ahead_counts_once_the_other_end_has_acknowledged_up_to_it(connection: Connection) -> None:
    connection.client("FA", CLIENT + FAR, SERVER)
    connection.server("FA", SERVER, CLIENT)
    assert not connection.is_closed
    connection.server("A", SERVER + 1, CLIENT + FAR // 2)
    assert not connection.is_closed
    connection.server("A", SERVER + 1, CLIENT + FAR + 1)
    assert connection.is_closed
    assert not connection.entry.state & CtState.ENDING


def test_forged_fins_close_nothing(connection: Connection) -> None:
    connection.client("FA", CLIENT, SERVER)
    connection.server("FA", SERVER + FAR, CLIENT)
    connection.server("A", SERVER, CLIENT + 1)
    assert not connection.is_closed
    connection.server("FA", SERVER, CLIENT + 1)
    assert connection.is_closed


def test_numbers_may_wrap(here: Node) -> None:
    connection = Connection(here, (A, B))
    connection.client("A", CLIENT, 0xFFFF_FFF0)
    connection.server("R", 5)
    assert connection.is_closed


def test_a_half_closed_connection_stays_and_its_packets_need_no_closer_look(connection: Connection) -> None:
    connection.client("FA", CLIENT, SERVER)
    connection.server("A", SERVER, CLIENT + 1)
    assert not connection.is_closed
    assert not connection.entry.state & CtState.ENDING


def test_a_syn_begins_a_new_connection_where_one_has_ended(connection: Connection) -> None:
    connection.server("R", SERVER)
    connection.client("S", 7)
    entry = connection.entry
    assert (entry.state, entry.initiator, [side.tcp_flags for side in entry.side]) == (0, 0, [2, 0])
