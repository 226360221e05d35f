"""Figures of this tree: sizes, layers, prose, ratio of tests, copies.

``python -m tools.figures`` prints them, ``--base`` beside those of a revision or a directory.
``--check`` prints what breaks a limit instead and exits 1 if anything does; behind it, paths narrow
what is printed, not what is measured.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence

from tools.figures.figures import measure
from tools.figures.limits import faults
from tools.figures.report import as_json, table
from tools.tree import ROOT, checked_out


def check(paths: Sequence[str]) -> int:
    """Print what breaks a limit, below ``paths`` if there are any; return the exit status."""
    found = narrowed(faults(measure(ROOT)), paths)
    for fault in found:
        print(f"figures: {fault}")
    return int(bool(found))


def narrowed(found: Iterable[str], paths: Sequence[str]) -> list[str]:
    """Return the faults that name one of ``paths``; all of them without paths."""
    return [fault for fault in found if not paths or any(path in fault for path in paths)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.figures", description="Figures of this tree.")
    parser.add_argument("--base", metavar="REVISION", help="print those of a revision, or of a directory, too")
    parser.add_argument("--json", action="store_true", help="print every figure with its places")
    parser.add_argument("--check", nargs="*", metavar="PATH", help="print what breaks a limit; exit 1 if anything does")
    options = parser.parse_args()
    if options.check is not None:
        return check(options.check)
    now, base = measure(ROOT), None
    if options.base:
        with checked_out(options.base) as root:
            base = measure(root)
    print(as_json(now, base) if options.json else table(now, base), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
