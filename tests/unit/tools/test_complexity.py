"""Records of what the programs cost: read, written, compared."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools import complexity
from tools.build import ROOT, compile_bpf
from tools.complexity import HEAD, BadRecord, Complexity, Row, check, faults, kernel_version, measure, parse, render

ONE = Row("6.1", "from_pod")
BEFORE = Complexity(1000, 20000, 5000)


def test_what_is_written_is_read_back() -> None:
    records = {ONE: BEFORE, Row("6.12", "to_pod"): Complexity(1, 2, 3)}
    assert parse(HEAD + render(records)) == records


def test_older_kernels_stand_first() -> None:
    text = render({Row("6.12", "a"): BEFORE, Row("6.1", "b"): BEFORE})
    assert [line.split()[0] for line in text.splitlines()] == ["kernel", "6.1", "6.12"]


@pytest.mark.parametrize("line", ["6.1 from_pod 1 2", "6.1 from_pod 1 2 many", "6.1 from_pod 1 2 3 4"])
def test_a_line_that_is_no_record_is_named(line: str) -> None:
    with pytest.raises(BadRecord, match=f"line 1 .*{line}"):
        parse(line)


def test_growth_within_the_tolerance_passes_and_beyond_it_is_named() -> None:
    assert list(faults({ONE: BEFORE}, {ONE: BEFORE._replace(verified_instructions=21000)})) == []
    (fault,) = faults({ONE: BEFORE}, {ONE: BEFORE._replace(verified_instructions=21001)})
    assert fault == "from_pod: verified_instructions grew from 20000 to 21001 (+5%)"


def test_a_program_that_came_or_went_is_named() -> None:
    found = list(faults({ONE: BEFORE}, {ONE._replace(program="new"): BEFORE}))
    assert found == ["from_pod: recorded, but there is no such program", "new: not recorded"]


def test_records_of_other_kernels_are_not_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(faults({ONE: BEFORE, ONE._replace(kernel="6.0"): Complexity(1, 1, 1)}, {ONE: BEFORE})) == []
    assert check({Row("0.1", "from_pod"): BEFORE}, {Row(kernel_version(), "from_pod"): BEFORE}) == 0
    assert "nothing is recorded" in capsys.readouterr().out


def test_a_longer_program_costs_more(tmp_path: Path) -> None:
    source, target = tmp_path / "longer.c", tmp_path / "longer.o"
    text = (ROOT / "bpf/cilia.c").read_text()
    entry = "int from_overlay(struct __sk_buff *ctx)\n{\n"
    assert entry in text
    source.write_text(text.replace(entry, f"{entry}\tfor (volatile int i = 0; i < 2000; i++)\n\t\t;\n"))
    compile_bpf(source, target, ROOT)
    faulty = [fault.split(":")[0] for fault in faults(measure(), measure(target))]
    assert faulty
    assert set(faulty) == {"from_overlay"}


COSTS = st.builds(Complexity, *[st.integers(0, 1 << 20)] * 3)
ROWS = st.builds(Row, st.sampled_from(["6.1", "6.12", "6.18"]), st.sampled_from(["from_pod", "to_pod", "to_uplink"]))


@given(st.dictionaries(ROWS, COSTS))
def test_any_records_are_read_back_as_they_were_written(records: dict[Row, Complexity]) -> None:
    assert parse(HEAD + render(records)) == records


@given(st.dictionaries(ROWS, COSTS))
def test_what_is_measured_as_recorded_has_no_fault(records: dict[Row, Complexity]) -> None:
    assert list(faults(records, records)) == []


@given(COSTS, COSTS)
def test_a_program_that_shrinks_is_never_a_fault(before: Complexity, now: Complexity) -> None:
    smaller = Complexity(*map(min, before, now))
    assert list(faults({ONE: before}, {ONE: smaller})) == []


def test_growth_fails_the_check_and_says_how_to_accept_it(capsys: pytest.CaptureFixture[str]) -> None:
    here = Row(kernel_version(), "from_pod")
    assert check({here: BEFORE}, {here: BEFORE}) == 0
    assert capsys.readouterr().out == ""
    assert check({here: BEFORE}, {here: BEFORE._replace(jited_bytes=9000)}) == 1
    out = capsys.readouterr().out
    assert "from_pod: jited_bytes grew from 5000 to 9000 (+80%)" in out
    assert "make complexity" in out


def test_columns_are_aligned_and_lines_have_no_blank_at_their_end() -> None:
    lines = render({ONE: BEFORE, Row("6.12", "to_the_uplink"): Complexity(1, 2, 3)}).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert all(line == line.rstrip() for line in lines)


OLD, NEW = Row("6.1", "from_pod"), Row("6.18", "from_pod")


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Records of two kernels, the newer of which runs here and measures other figures now."""
    path = tmp_path / "complexity.txt"
    monkeypatch.setattr(complexity, "RECORDS", path)
    monkeypatch.setattr(complexity, "ROOT", tmp_path)
    monkeypatch.setattr(complexity, "kernel_version", lambda: "6.18")
    monkeypatch.setattr(complexity, "measure", lambda: {NEW: Complexity(2000, 40000, 9000)})
    complexity.write({OLD: BEFORE, NEW: BEFORE, Row("6.18", "gone"): BEFORE})
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["complexity", *arguments])
    return complexity.main()


def test_recording_replaces_this_kernels_figures_and_keeps_those_of_others(
    records: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--record") == 0
    assert "40000" in capsys.readouterr().out
    assert parse(records.read_text()) == {OLD: BEFORE, NEW: Complexity(2000, 40000, 9000)}
    assert run(monkeypatch, "--check") == 0


def test_a_check_fails_on_growth_and_on_programs_that_went_and_records_nothing(
    records: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = records.read_text()
    assert run(monkeypatch, "--check", "--record") == 1
    said = capsys.readouterr().out
    assert "from_pod: verified_instructions grew from 20000 to 40000 (+100%)" in said
    assert "gone: recorded, but there is no such program" in said
    assert records.read_text() == before


def test_figures_are_shown_where_nothing_is_recorded_yet(
    records: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records.unlink()
    assert run(monkeypatch, "--check") == 0
    assert "nothing is recorded for Linux 6.18" in capsys.readouterr().out
    assert run(monkeypatch) == 0
    assert not records.exists()
