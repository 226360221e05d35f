"""How reports reach their reader, and what becomes of those that don't."""

import select

from cilia.abi.enums import Hook, Outcome
from tests.bpf.datapath.packets import tcp
from tests.bpf.datapath.rig import TC_ACT_SHOT, A, B, Node

RECORD_BYTES = 88
WAKE_BYTES = 1 << 16


def test_a_reader_is_not_woken_for_a_few_reports_but_finds_them(here: Node) -> None:
    with select.epoll() as epoll:
        epoll.register(here.ring.fileno(), select.EPOLLIN)
        here.run("from_pod", tcp(A, B), "lxc1", repeat=10)
        assert epoll.poll(0.05) == []
    assert len(here.events()) == 10


def test_a_reader_is_woken_once_many_reports_wait(here: Node) -> None:
    with select.epoll() as epoll:
        epoll.register(here.ring.fileno(), select.EPOLLIN)
        here.run("from_pod", tcp(A, B), "lxc1", repeat=WAKE_BYTES // RECORD_BYTES + 2)
        assert epoll.poll(1)


def test_reports_that_find_no_room_are_counted_and_the_packet_fares_as_before(here: Node) -> None:
    before = here.counted(Outcome.LOST_EVENT, Hook.FROM_POD)
    ran = here.run("from_pod", tcp(A, B), "lxc1", repeat=60_000)
    assert ran.retval == TC_ACT_SHOT
    assert here.counted(Outcome.LOST_EVENT, Hook.FROM_POD) > before
