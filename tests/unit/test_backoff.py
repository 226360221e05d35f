"""Pauses between attempts."""

from hypothesis import given
from hypothesis import strategies as st

from cilia.backoff import Backoff


def whole(_: float, most: float) -> float:
    return most


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(0.1, 0.5, whole)
    assert [backoff.next_seconds() for _ in range(5)] == [0.1, 0.2, 0.4, 0.5, 0.5]


def test_after_a_success_they_begin_again() -> None:
    backoff = Backoff(1.0, 60.0, whole)
    backoff.next_seconds()
    assert backoff.next_seconds() == 2.0
    backoff.reset()
    assert backoff.next_seconds() == 1.0


@given(st.integers(0, 10_000))
def test_a_pause_never_exceeds_the_longest_however_often_it_failed(failures: int) -> None:
    backoff = Backoff(0.2, 10.0)
    backoff.failures = failures
    assert 0.1 <= backoff.next_seconds() <= 10.0


async def test_a_pause_is_slept() -> None:
    backoff = Backoff(0.001, 0.001)
    await backoff.pause()
    assert backoff.failures == 1
