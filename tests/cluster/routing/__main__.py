"""A hundred thousand short connections from a pod to each place, in both routing modes and
families, and what failed.

::

    python -m tests.cluster.routing [--connections 100000] [--routing overlay] [--to "pod, across"]
"""

import argparse
import os
import sys

from laboratory.cluster import LocalCluster
from tests.cluster.routing.peers import make_peers
from tests.cluster.routing.test_traffic import connect, serving_load


def main() -> int:
    """Run it; exit code 1 if a connection failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=100_000, help="to each (default %(default)s)")
    parser.add_argument("--routing", choices=("overlay", "native"), help="only this mode")
    parser.add_argument("--to", help="only this place")
    arguments = parser.parse_args()
    failed = 0
    for routing in (arguments.routing,) if arguments.routing else ("overlay", "native"):
        failed += burst(routing, arguments.connections, arguments.to)
    return min(failed, 1)


def burst(routing: str, connections: int, only: str | None) -> int:
    """Return how many connections failed in one cluster."""
    failed = 0
    cluster = LocalCluster.up(f"burst-{os.getpid()}", nodes=2, external_host=True, agent_settings={"routing": routing})
    try:
        peers = make_peers(cluster)
        for name, server in peers.others().items():
            if name == "host" or (only and name != only):
                continue
            with serving_load(server):
                for address in server.addresses:
                    report = connect(peers.client, address, connections)
                    failed += int(str(report["failed"]))
                    print(f"{routing}, {name}, {address}: {report}", flush=True)
    finally:
        cluster.down()
    return failed


if __name__ == "__main__":
    sys.exit(main())
