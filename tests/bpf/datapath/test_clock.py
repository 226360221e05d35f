"""The coarse clock: its rate is what the agent takes it for, and flows are stamped by it."""

import time

from cilia.datapath.clock import TICKS_PER_SECOND, TICKS_WRAP, CoarseClock
from tests.bpf.datapath.packets import tcp
from tests.bpf.datapath.rig import EGRESS, INGRESS, A, B, Node

SLACK = 25
"""Ticks by which a processor of a busy host may be late to count them."""


def test_the_clock_counts_as_many_ticks_in_a_second_as_the_agent_believes(here: Node) -> None:
    clock = CoarseClock(here.objects.program("read_clock"))
    before = time.monotonic()
    first = clock.now()
    begun = time.monotonic()
    time.sleep(1)
    ended = time.monotonic()
    last = clock.now()
    after = time.monotonic()
    ticks = (last - first) % TICKS_WRAP
    assert (ended - begun) * TICKS_PER_SECOND - SLACK <= ticks <= (after - before) * TICKS_PER_SECOND + SLACK


def test_a_flow_is_stamped_by_the_clock_that_the_agent_reads(here: Node) -> None:
    clock = CoarseClock(here.objects.program("read_clock"))
    here.allow(A, EGRESS)
    here.allow(B, INGRESS)
    before = clock.now()
    here.run("from_pod", tcp(A, B), "lxc1")
    after = clock.now()
    assert (here.flow()[1].last_seen - before) % TICKS_WRAP <= (after - before) % TICKS_WRAP
