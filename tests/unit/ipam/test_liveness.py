"""Liveness in simulated time: who is stale, who is dead, and that our own absence kills nobody."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cilia.contracts.ids import NodeName
from services.ipam.liveness import Dead, Fresh, Liveness, Stale, Step

STALE, DEAD = 30.0, 600.0
N1, N2, N3 = (NodeName(f"n{number}") for number in (1, 2, 3))
NODES = (N1, N2, N3)


class Term:
    """A term of a leader, whose marks are written and whose dead are removed."""

    def __init__(self, *nodes: NodeName, dead_seconds: float = DEAD) -> None:
        self.liveness = Liveness(STALE, dead_seconds)
        self.nodes = set(nodes or NODES)
        self.stale: set[NodeName] = set()
        self.steps: list[Step] = []

    def pass_time(
        self,
        seconds: float,
        heard: Callable[[NodeName], bool] = lambda _: True,
        *,
        bus_answers: bool = True,
        sweep_seconds: float = 0.0,
    ) -> None:
        sweep_seconds = sweep_seconds or self.liveness.sweep_seconds
        for _ in range(round(seconds / sweep_seconds)):
            for node in filter(heard, sorted(self.nodes)):
                self.liveness.hear(node)
            for step in self.liveness.sweep(self.nodes, self.stale, sweep_seconds, bus_answers=bus_answers):
                self.take(step)

    def take(self, step: Step) -> None:
        self.steps.append(step)
        match step:
            case Stale(node):
                assert node not in self.stale
                self.stale.add(node)
            case Fresh(node):
                self.stale.remove(node)
            case Dead(node):
                self.stale.remove(node)
                self.nodes.remove(node)


def but(*silent: NodeName) -> Callable[[NodeName], bool]:
    return lambda node: node not in silent


def nobody(_: NodeName) -> bool:
    return False


def test_a_silent_node_is_stale_after_its_time_and_fresh_with_its_next_heartbeat() -> None:
    term = Term()
    term.pass_time(STALE - 3, but(N1))
    assert term.steps == []
    term.pass_time(6, but(N1))
    assert [type(step) for step in term.steps] == [Stale]
    assert term.stale == {N1}
    term.pass_time(3)
    assert term.steps[1:] == [Fresh(N1)]


def test_a_node_that_stays_silent_is_declared_dead_once_and_only_after_its_time() -> None:
    term = Term()
    term.pass_time(DEAD - 6, but(N1))
    assert term.nodes == set(NODES)
    term.pass_time(12, but(N1))
    assert term.nodes == {N2, N3}
    assert [type(step) for step in term.steps] == [Stale, Dead]


def test_with_no_time_to_die_nobody_does() -> None:
    term = Term(dead_seconds=0)
    term.pass_time(100 * DEAD, but(N1), sweep_seconds=3)
    assert (term.stale, term.nodes) == ({N1}, set(NODES))


@pytest.mark.parametrize("silent", [(N1, N2), NODES])
def test_while_most_nodes_are_silent_the_fault_is_taken_for_ours(silent: tuple[NodeName, ...]) -> None:
    term = Term()
    term.pass_time(100 * DEAD, but(*silent))
    assert (term.stale, term.nodes) == (set(silent), set(NODES))
    term.pass_time(DEAD / 2, but(N1))
    assert term.nodes == set(NODES), "time in which most were silent has been counted"
    term.pass_time(DEAD, but(N1))
    assert term.nodes == {N2, N3}


def test_a_single_node_is_never_declared_dead_by_its_own_silence() -> None:
    term = Term(N1)
    term.pass_time(100 * DEAD, nobody)
    assert (term.stale, term.nodes) == ({N1}, {N1})


def test_time_without_the_bus_counts_for_nothing_and_the_clocks_begin_anew() -> None:
    term = Term()
    term.pass_time(DEAD - 30, but(N1))
    term.pass_time(100 * DEAD, nobody, bus_answers=False)
    assert (term.nodes, term.stale) == (set(NODES), {N1})
    term.pass_time(STALE - 3, nobody)
    assert term.stale == {N1}
    term.pass_time(DEAD - 30, but(N1))
    assert term.nodes == set(NODES)


def test_after_a_pause_of_this_process_the_clocks_begin_anew() -> None:
    term = Term()
    term.pass_time(DEAD - 30, but(N1))
    assert term.liveness.sweep(term.nodes, term.stale, 100 * DEAD, bus_answers=True) == []
    term.pass_time(STALE - 3, nobody)
    assert (term.nodes, term.stale) == (set(NODES), {N1})


def test_a_new_leader_keeps_the_marks_until_it_hears_better() -> None:
    term = Term()
    term.stale = {N1, N2}
    term.pass_time(STALE - 3, but(N1))
    assert term.steps == [Fresh(N2)]
    term.pass_time(DEAD - 60, but(N1))
    assert term.nodes == set(NODES)


def test_a_node_that_came_later_has_all_its_time() -> None:
    term = Term()
    term.pass_time(DEAD)
    term.nodes.add(NodeName("n4"))
    term.pass_time(STALE - 3, but(NodeName("n4")))
    assert term.steps == []


ACTS = st.lists(
    st.tuples(st.sampled_from(["all", "none", "without the bus", "paused", "but one", "but two"]), st.integers(1, 400)),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(ACTS)
def test_whatever_happens_only_silence_among_a_majority_that_is_heard_kills(acts: list[tuple[str, int]]) -> None:
    term = Term()
    alone_silent = 0.0  # a bound: seconds in which some, but not most, were silent
    for act, sweeps in acts:
        seconds = sweeps * term.liveness.sweep_seconds
        match act:
            case "all":
                term.pass_time(seconds)
            case "none":
                term.pass_time(seconds, nobody)
                alone_silent += min(seconds, STALE + 3)
            case "without the bus":
                term.pass_time(seconds, nobody, bus_answers=False)
            case "paused":
                term.liveness.sweep(term.nodes, term.stale, 100 * seconds + 100, bus_answers=True)
            case "but one":
                term.pass_time(seconds, but(N1))
                alone_silent += seconds
            case "but two":
                term.pass_time(seconds, but(N1, N2))
                alone_silent += min(seconds, STALE + 3) if len(term.nodes) > 2 else seconds
        assert N3 in term.nodes
        assert {N1, N2} <= term.nodes or alone_silent >= DEAD - term.liveness.sweep_seconds
