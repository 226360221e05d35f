"""Cost of each program for the verifier and the instruction cache, recorded so that growth is seen.

``python -m tools.complexity`` measures on this kernel and prints, ``--record`` writes
bpf/complexity.txt, ``--check`` exits 1 if a program has grown by more than the tolerance, or isn't
recorded. Numbers depend on the kernel, so they are recorded for each of its versions (6.18, say);
on one without records a check only reports.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cilia.datapath.features import reads_kernel_context
from cilia.datapath.objects import OBJECTS, LoadOptions, load

ROOT: Final = Path(__file__).resolve().parent.parent
RECORDS: Final = ROOT / "bpf/complexity.txt"
HEAD: Final = (
    "# Cost of each program: instructions, those that the verifier looked at on all paths (it gives up at a million),\n"
    "# bytes of machine code. Written by `make complexity`, compared by `make check`.\n"
)
TOLERANCE: Final = 0.05
VARIABLES: Final = {
    "masquerades": 1,
    "node_ipv4": 0xC0000201,
    "overlay_ifindex": 7,
    "reads_offload": reads_kernel_context(),
}
"""A node that has everything switched on; values that prune nothing."""


class Complexity(NamedTuple):
    """Cost of one program on one kernel."""

    instructions: int
    verified_instructions: int
    jited_bytes: int


class Row(NamedTuple):
    """Subject of a record: one program on one kernel."""

    kernel: str
    program: str


class BadRecord(Exception):
    """A line is no record."""


Records = Mapping[Row, Complexity]


def kernel_version() -> str:
    """Return the version whose stable releases share a verifier: 6.18 of 6.18.44."""
    found = re.match(r"\d+\.\d+", os.uname().release)
    return found[0] if found else os.uname().release


def measure(file: Path = OBJECTS / "cilia.o") -> dict[Row, Complexity]:
    """Load the data plane into this kernel; return each program's cost. Raises LoadFailed."""
    kernel = kernel_version()
    with load(file, LoadOptions(variables=VARIABLES)) as loaded:
        return {Row(kernel, name): Complexity(*program.info()[1:]) for name, program in sorted(loaded.programs.items())}


def parse(text: str) -> dict[Row, Complexity]:
    """Read records.

    Raises:
        BadRecord: A line has other fields.
    """
    records = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#") or not line.strip():
            continue
        match line.split():
            case ["kernel", *_]:
                continue
            case [kernel, program, *numbers] if len(numbers) == 3 and all(map(str.isdigit, numbers)):
                records[Row(kernel, program)] = Complexity(*map(int, numbers))
            case _:
                raise BadRecord(f"line {number} is not `kernel program` and three numbers: {line!r}")
    return records


def write(records: Records) -> None:
    """Replace the records."""
    RECORDS.write_text(HEAD + render(records))


def render(records: Records) -> str:
    """Return a table, as the records are kept."""
    lines: list[tuple[str, ...]] = [("kernel", "program", "instructions", "verified", "jited_bytes")]
    lines += [(*row, *map(str, records[row])) for row in sorted(records, key=_order)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(
            cell.ljust(width) if at < 2 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        + "\n"
        for line in lines
    )


def _order(row: Row) -> tuple[Sequence[int], str]:
    return [int(part) for part in re.findall(r"\d+", row.kernel)], row.program


def faults(recorded: Records, measured: Records) -> Iterator[str]:
    """Yield what has grown beyond the tolerance, came or went, on the kernel that was measured."""
    kernels = {row.kernel for row in measured}
    for row in sorted({row for row in recorded if row.kernel in kernels} | measured.keys()):
        before, now = recorded.get(row), measured.get(row)
        if before is None or now is None:
            yield f"{row.program}: {'not recorded' if before is None else 'recorded, but there is no such program'}"
            continue
        for name, was, is_ in zip(Complexity._fields, before, now, strict=True):
            if is_ > was * (1 + TOLERANCE):
                yield f"{row.program}: {name} grew from {was} to {is_} ({is_ / was - 1:+.0%})"


def check(records: Records, measured: Records) -> int:
    """Compare, print, and return the exit status."""
    kernel = kernel_version()
    if not any(row.kernel == kernel for row in records):
        print(f"complexity: nothing is recorded for Linux {kernel}; `make complexity` would")
        return 0
    found = list(faults(records, measured))
    for fault in found:
        print(f"complexity: {fault}")
    if found:
        print(
            "complexity: if that is what it should cost, accept it with `make complexity`, on another kernel with "
            "`python -m tools.kernels --steps load --record`, and commit bpf/complexity.txt"
        )
    return int(bool(found))


def main() -> int:
    parser = argparse.ArgumentParser(description="Cost of the data plane's programs for the verifier and the CPU.")
    parser.add_argument("--check", action="store_true", help=f"exit 1 on growth beyond {TOLERANCE:.0%} of the records")
    parser.add_argument("--record", action="store_true", help=f"write {RECORDS.relative_to(ROOT)}")
    options = parser.parse_args()
    records = parse(RECORDS.read_text()) if RECORDS.exists() else {}
    measured = measure()
    if options.check:
        return check(records, measured)
    print(render(measured), end="")
    if options.record:
        kept = {row: one for row, one in records.items() if row.kernel != kernel_version()}
        write(kept | measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
