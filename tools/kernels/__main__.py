"""Kernel matrix: the data plane on Debian's kernels in QEMU, over this machine's read-only root.

``python -m tools.kernels`` prints kernel x step and exits 1 if a step failed or wasn't reached.
``--record`` writes what the programs cost each verifier into bpf/complexity.txt.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from tools import complexity
from tools.build import build_extension, build_objects
from tools.kernels.guest import STEPS
from tools.kernels.images import PACKAGES, CannotPrepare, prepare
from tools.kernels.machine import Outcome, Report, boot

LIMIT_SECONDS: Final = 3600
NOT_REACHED: Final = Outcome(False, 0.0, "not reached")


def passed(report: Report, steps: Sequence[str]) -> bool:
    """Tell whether every step was reached and passed."""
    return all(report.steps.get(step, NOT_REACHED).passed for step in steps)


def render(reports: Sequence[Report], steps: Sequence[str]) -> str:
    """Return the table, with the console's file below each kernel that failed."""
    lines = []
    for report in reports:
        lines.append(f"Linux {report.release}")
        for step in steps:
            outcome = report.steps.get(step, NOT_REACHED)
            word = "ok" if outcome.passed else "FAILED"
            lines.append(f"  {step:<8} {word:<7}{outcome.seconds:7.1f} s  {outcome.detail}")
        if not passed(report, steps):
            lines.append(f"  console: {report.console}")
    return "\n".join(lines)


def replace_records(records: complexity.Records, reports: Sequence[Report]) -> complexity.Records:
    """Return the records with those of the reported kernels replaced by what was measured there."""
    for report in reports:
        measured = complexity.parse(report.complexity)
        kernels = {row.kernel for row in measured}
        records = {row: one for row, one in records.items() if row.kernel not in kernels} | measured
    return records


def main() -> int:
    parser = argparse.ArgumentParser(description="The data plane on Debian's kernels, in QEMU.")
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help=f"of {', '.join(PACKAGES)}; all by default")
    parser.add_argument("--steps", default=",".join(STEPS), help="separated by commas; all by default")
    parser.add_argument("--record", action="store_true", help="write what the programs cost to bpf/complexity.txt")
    options = parser.parse_args()
    unknown = set(options.kernels) - PACKAGES.keys()
    if unknown:
        parser.error(f"KERNEL: {', '.join(sorted(unknown))} is none of {', '.join(PACKAGES)}")
    steps = [step for step in options.steps.split(",") if step]
    if set(steps) - STEPS.keys():
        parser.error(f"--steps: {', '.join(sorted(set(steps) - STEPS.keys()))} is none of {', '.join(STEPS)}")
    build_objects()
    build_extension()
    try:
        reports = [
            boot(prepare(version), steps, LIMIT_SECONDS, accept=options.record)
            for version in options.kernels or PACKAGES
        ]
    except CannotPrepare as problem:
        print(f"kernels: {problem}", file=sys.stderr)
        return 1
    print(render(reports, ["boot", *steps]))
    if options.record:
        complexity.write(replace_records(complexity.parse(complexity.RECORDS.read_text()), reports))
    return 0 if all(passed(report, ["boot", *steps]) for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
