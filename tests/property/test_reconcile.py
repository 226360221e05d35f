"""Reconciler's plan against a brute-force model: the table ends as desired, whatever fails."""

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.reconcile.kernel import Bench

KEYS = tuple("abcde")
Step = tuple[str, ...]
key = st.sampled_from(KEYS)
value = st.sampled_from("123")
steps = st.lists(
    st.one_of(
        st.tuples(st.just("want"), key, value),
        st.tuples(st.just("drop"), key),
        st.tuples(st.just("refuse"), key),
        st.tuples(st.just("accept"), key),
        st.tuples(st.just("capacity"), st.sampled_from("0135")),
        st.tuples(st.just("write")),
        st.tuples(st.just("urgent"), key),
        st.tuples(st.just("race"), key, value),
        st.tuples(st.just("foreign"), key, value),
        st.tuples(st.just("emptied"), key),
        st.tuples(st.just("look")),
        st.tuples(st.just("compare")),
        st.tuples(st.just("wait"), st.sampled_from("19")),
        st.tuples(st.just("complete")),
    ),
    max_size=30,
)
tables = st.dictionaries(key, value)


@dataclass
class Run:
    """A bench with the steps of one history, and what must hold after each of them."""

    bench: Bench
    batch: int
    found: dict[str, str] | None = None

    def perform(self, step: Step) -> None:
        action: Callable[..., None] = getattr(self, f"do_{step[0]}")
        action(*step[1:])

    def do_want(self, key: str, value: str) -> None:
        self.bench.want(key, value)

    def do_drop(self, key: str) -> None:
        self.bench.want(key, None)

    def do_refuse(self, key: str) -> None:
        self.bench.kernel.refusals[key] = "refused"

    def do_accept(self, key: str) -> None:
        self.bench.kernel.refusals.pop(key, None)

    def do_capacity(self, entries: str) -> None:
        self.bench.kernel.capacity = int(entries)

    def do_write(self, *urgent: str) -> None:
        bench = self.bench
        bench.reconciler.take_changes()
        batch = bench.plan.take(bench.now, self.batch, urgent or None)
        assert len(batch) <= self.batch
        if not batch:
            return
        for key, value in batch.items():
            assert bench.plan.applied.get(key) != value
        bench.plan.finish(batch, bench.kernel.write(batch), bench.now)

    do_urgent = do_write

    def do_race(self, key: str, value: str) -> None:
        """Desired state changes while a batch is being written."""
        self.bench.kernel.during = lambda: self.bench.want(key, value)
        self.do_write()
        self.bench.kernel.during = lambda: None

    def do_foreign(self, key: str, value: str) -> None:
        self.bench.kernel.held[key] = value

    def do_emptied(self, key: str) -> None:
        self.bench.kernel.held.pop(key, None)

    def do_look(self) -> None:
        self.bench.plan.begin_look()
        self.found = self.bench.kernel.read()

    def do_compare(self) -> None:
        if self.found is not None:
            for _ in self.bench.plan.compare(self.found):
                pass
        self.found = None

    def do_wait(self, seconds: str) -> None:
        self.bench.now += float(seconds)

    def do_complete(self) -> None:
        self.bench.reconciler.take_changes()
        for _ in self.bench.plan.complete():
            pass

    def settle(self) -> None:
        """Let everything succeed from now on, and time pass."""
        bench = self.bench
        bench.kernel.refusals.clear()
        bench.kernel.capacity = 1_000
        self.do_complete()
        for _ in range(2):
            self.do_look()
            self.do_compare()
            for _ in range(4 * len(KEYS)):
                bench.now += 10.0
                self.do_write()


@settings(max_examples=150, deadline=None)
@given(tables, steps, st.integers(1, 5))
def test_the_table_ends_as_desired_whatever_failed_before(
    left: dict[str, str], history: list[Step], batch: int
) -> None:
    run = Run(Bench(left), batch)
    for step in history:
        run.perform(step)
    run.settle()
    assert run.bench.kernel.held == run.bench.desired == run.bench.plan.applied
    assert (run.bench.plan.pending, run.bench.plan.refused, run.bench.plan.full) == (0, {}, "")
    assert run.bench.plan.next_retry() is None


@settings(max_examples=120, deadline=None)
@given(tables, steps, st.integers(1, 5))
def test_before_completeness_only_what_was_dropped_or_came_from_others_is_removed(
    left: dict[str, str], history: list[Step], batch: int
) -> None:
    run, dropped = Run(Bench(left), batch), set[str]()
    for step in history:
        if step[0] == "complete":
            continue
        if step[0] in ("drop", "foreign"):
            dropped.add(step[1])
        run.perform(step)
    removed = {key for write in run.bench.kernel.writes for key, value in write.items() if value is None}
    assert removed <= dropped


@settings(max_examples=120, deadline=None)
@given(tables, steps, st.integers(1, 5))
def test_undisturbed_and_accepted_changes_are_written_once_each(
    left: dict[str, str], history: list[Step], batch: int
) -> None:
    """No write repeats the one before it of the same object."""
    run = Run(Bench(left), batch)
    for step in history:
        if step[0] in ("want", "drop", "write", "urgent", "race", "look", "compare", "complete", "wait"):
            run.perform(step)
    last: dict[str, str | None] = {**dict.fromkeys(KEYS), **left}
    for write in run.bench.kernel.writes:
        for key, value in write.items():
            assert last[key] != value
            last[key] = value


@settings(max_examples=80, deadline=None)
@given(tables, steps)
def test_the_state_of_each_object_follows_from_what_is_applied_and_what_failed(
    left: dict[str, str], history: list[Step]
) -> None:
    run = Run(Bench(left), 5)
    plan = run.bench.plan
    for step in history:
        run.perform(step)
        for key in KEYS:
            is_done = plan.applied.get(key) == run.bench.desired.get(key)
            assert (plan.status(key) == "done") == is_done
            assert not (plan.status(key) == "error" and not (plan.refused or plan.full))
