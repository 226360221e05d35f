"""Benchmarks of this tree beside those of a former revision, in turns in one run.

``python -m bench.compare REVISION [BENCHMARK ...] [--rounds N] [--json]``; a benchmark is one of
:data:`SCRIPTS`, by default all. A round takes one, four, a half and two minutes for each side.

The former tree is unpacked and built in a scratch folder and runs on this environment's packages.
What is printed is the quotient, this tree's figure by the former one's, of each round: median,
least, greatest. For a rate more than 1 is better, for a time or a size less.
"""

import argparse
import io
import os
import signal
import subprocess
import sys
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Final

import msgspec

from bench.report import Figure, report, summarize

ROOT: Final = Path(__file__).resolve().parent.parent
SCRIPTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "programs": "from bench.programs import measure_programs as m; figures = m(30)",
        "endpoint": "from bench.endpoint import *\nfigures = []\nwith own_cluster() as cluster:\n"
        "    figures += measure_policy(cluster) + measure_endpoints(cluster)",
        "resolution": "import time\ntime.perf_counter = time.process_time\nfrom bench.policy_scale import measure\n"
        "figures = []\nmeasure(type('Pipe', (), {'send': figures.extend}))",
        "policy": "from bench.policy_nodes import measure_nodes\nfigures = measure_nodes()",
    }
)
"""Benchmark -> what runs it in either tree; leaves ``figures``.

``resolution`` is pure computing, so it goes by processor time, which others on the machine disturb
less.
"""
PRINT: Final = "\nfrom bench.report import report\nreport(figures, as_json=True)"


@contextmanager
def former_tree(revision: str) -> Iterator[Path]:
    """Unpack and build a former revision for the block.

    Raises:
        subprocess.CalledProcessError: git doesn't know the revision, or it doesn't build.
    """
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
    with TemporaryDirectory(prefix="former-") as scratch:
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            packed.extractall(scratch, filter="data")
        subprocess.run([sys.executable, "tools/build.py"], cwd=scratch, check=True, stdout=subprocess.DEVNULL)
        yield Path(scratch)


def run_benchmark(tree: Path, script: str) -> dict[str, float]:
    """Run a benchmark in a tree and return its figures by name.

    Raises:
        subprocess.CalledProcessError: The benchmark failed; what it said is on stderr.
    """
    command = [sys.executable, "-c", script + PRINT]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    run = subprocess.run(command, cwd=tree, env=environment, stdout=subprocess.PIPE, check=True)
    figures = [msgspec.json.decode(line, type=Figure) for line in run.stdout.splitlines()]
    return {figure.name: figure.value for figure in figures}


def quotients(ours: Sequence[Mapping[str, float]], former: Sequence[Mapping[str, float]]) -> list[Figure]:
    """Return the quotient of each figure that both sides have, over rounds run in turns."""
    samples: dict[str, list[float]] = defaultdict(list)
    for one, other in zip(ours, former, strict=False):  # an interrupted round has one side only
        for name in one.keys() & other.keys():
            if other[name]:
                samples[name].append(one[name] / other[name])
    return [summarize(f"{name}.former_ratio", "ratio", samples[name]) for name in sorted(samples)]


def compare(former: Path, names: Sequence[str], rounds: int) -> list[Figure]:
    """Run the benchmarks in turns; what was measured before an interruption is kept."""
    figures: list[Figure] = []
    for name in names:
        sides: dict[Path, list[dict[str, float]]] = {ROOT: [], former: []}
        try:
            for number in range(rounds):
                for tree in sorted(sides, reverse=number % 2 == 0):
                    whose = "former" if tree == former else "ours"
                    print(f"{name}: round {number + 1} of {rounds}, {whose}", file=sys.stderr, flush=True)
                    sides[tree].append(run_benchmark(tree, SCRIPTS[name]))
        except KeyboardInterrupt:
            return [*figures, *quotients(sides[ROOT], sides[former])]
        figures += quotients(sides[ROOT], sides[former])
    return figures


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("revision", help="the former state, as git names it")
    parser.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help=", ".join(SCRIPTS))
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="a line per figure")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.benchmarks if name not in SCRIPTS]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(SCRIPTS)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with former_tree(arguments.revision) as former:
        report(compare(former, arguments.benchmarks or list(SCRIPTS), arguments.rounds), as_json=arguments.json)


if __name__ == "__main__":
    main()
