"""Records of what the programs cost: read, written, compared."""

from pathlib import Path

import pytest

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
