"""All scenarios on real traffic, or those whose names hold a text; exit code 1 if one comes out
otherwise.

::

    python -m tests.cluster.scenarios [TEXT]
"""

import asyncio
import os
import sys
import time

from laboratory.cluster import LocalCluster
from tests.cluster.scenarios.stage import Stage, probes
from tests.cluster.scenarios.table import SCENARIOS


def main() -> int:
    """Play them."""
    text = " ".join(sys.argv[1:])
    chosen = [scenario for scenario in SCENARIOS if text in scenario.name]
    started, failed = time.monotonic(), 0
    cluster = LocalCluster.up(f"scenes-{os.getpid()}", nodes=2, external_host=True)
    try:
        stage = Stage(cluster)
        for scenario in chosen:
            wrong = asyncio.run(stage.play(scenario))
            failed += bool(wrong)
            for line in wrong:
                print(f"{scenario.name}: {line}", flush=True)
    finally:
        cluster.down()
    tried = sum(1 for scenario in chosen for _ in probes(scenario))
    seconds = time.monotonic() - started
    print(
        f"{len(chosen)} scenarios, {tried} ways tried, {failed} scenarios otherwise than they say, in {seconds:.0f} s"
    )
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
