"""All cases of the Kubernetes project's policy tests on real traffic, or some; exit code 1 if one
comes out otherwise.

::

    python -m tests.cluster.kubernetes [--cases 1-40]
"""

import argparse
import asyncio
import os
import sys
import time

from laboratory.cluster import LocalCluster
from tests.cluster.kubernetes.conformance import Stage, probes
from tests.unit.policy.corpus import load


def main() -> int:
    """Run them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", default="1-1000000", help="first-last, by their numbers (default: all)")
    first, _, last = parser.parse_args().cases.partition("-")
    cases = [case for case in load("kubernetes-networkpolicy.json")["cases"] if int(first) <= case["id"] <= int(last)]
    started, tried, failed = time.monotonic(), 0, 0
    cluster = LocalCluster.up(f"k8s-{os.getpid()}", nodes=3)
    try:
        stage = Stage(cluster)
        for case in cases:
            for number, step in enumerate(case["steps"], 1):
                stage.set(step)
                wrong = asyncio.run(stage.try_all(step))
                tried += sum(1 for _ in probes(step))
                failed += bool(wrong)
                for line in wrong:
                    print(f"case {case['id']} ({case['description']}), step {number}: {line}", flush=True)
    finally:
        cluster.down()
    seconds = time.monotonic() - started
    print(f"{len(cases)} cases, {tried} ways tried, {failed} steps otherwise than they say, in {seconds:.0f} s")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
