"""Values on the command line: read exactly, or refused with the text and the wish."""

import argparse
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.commands import arguments
from cilia.commands.arguments import (
    UNITS,
    BadNumber,
    BadPair,
    BadTime,
    parse_count,
    parse_pair,
    parse_seconds,
    parse_since,
)

NOW_NS = 1_700_000_000_000_000_000


@given(st.integers(1, 10**12))
def test_a_count_is_a_whole_number_above_zero(number: int) -> None:
    assert parse_count(str(number)) == number


@given(st.text(max_size=6).filter(lambda text: not (text.isascii() and text.isdigit() and int(text))))
def test_what_is_no_count_is_refused_as_it_was_written(text: str) -> None:
    with pytest.raises(BadNumber) as caught:
        parse_count(text)
    assert str(caught.value) == f"{text!r} is not a whole number above 0"


@given(st.floats(min_value=1e-6, max_value=1e9))
def test_a_time_in_seconds_is_any_number_above_zero(seconds: float) -> None:
    assert parse_seconds(repr(seconds)) == seconds


@pytest.mark.parametrize("text", ["0", "-1", "-0.0", "inf", "nan", "1e999"])
def test_a_time_that_never_comes_is_refused(text: str) -> None:
    with pytest.raises(BadNumber, match="is not a time in seconds above 0"):
        parse_seconds(text)


@pytest.mark.parametrize("text", ["", "soon", "1s", "1,5", "0x10"])
def test_a_time_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(BadNumber, match=r"is not a time in seconds$"):
        parse_seconds(text)


@given(key=st.text(min_size=1).filter(lambda text: "=" not in text), value=st.text())
def test_a_pair_is_split_at_its_first_equals_sign(key: str, value: str) -> None:
    assert parse_pair(f"{key}={value}") == (key, value)


@pytest.mark.parametrize("text", ["", "app", "=web", "="])
def test_what_is_no_pair_is_refused(text: str) -> None:
    with pytest.raises(BadPair, match="is not key=value"):
        parse_pair(text)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("24h", 86_400), ("7d", 604_800), ("0s", 0)])
def test_an_age_is_so_long_before_now(text: str, seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: NOW_NS)
    assert parse_since(text) == NOW_NS - seconds * 10**9


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)).map(lambda time: time.replace(microsecond=0)))
def test_a_point_in_time_is_local_time(time: datetime) -> None:
    assert parse_since(time.isoformat()) == int(time.timestamp()) * 10**9


def test_a_point_in_time_may_name_its_offset() -> None:
    assert parse_since("2026-01-31T12:00+00:00") == parse_since("2026-01-31T13:00+01:00")
    assert parse_since("2026-01-31") == parse_since("2026-01-31T00:00")


@pytest.mark.parametrize("text", ["", "h", "7", "7w", "-1h", "1.5h", "yesterday", "2026-13-01", "12:00"])
def test_what_is_neither_an_age_nor_a_time_is_refused(text: str) -> None:
    with pytest.raises(BadTime, match="neither an age such as 90s, 30m, 24h or 7d, nor a time such as"):
        parse_since(text)


def test_every_unit_of_an_age_is_a_letter() -> None:
    assert all(len(unit) == 1 and unit.isalpha() for unit in UNITS)


def test_an_option_that_repeats_collects_its_pairs() -> None:
    parser = argparse.ArgumentParser()
    arguments.add_pairs(parser, "-l", "--label", to="labels", summary="")
    assert parser.parse_args(["-l", "a=b", "--label", "c=d"]).labels == [("a", "b"), ("c", "d")]
    assert parser.parse_args([]).labels == []
    assert parser.parse_args([]).labels is not parser.parse_args(["-l", "a=b"]).labels
