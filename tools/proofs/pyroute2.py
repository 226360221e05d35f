"""Proof that pyroute2 is too heavy for the agent's process, and doesn't run on its event loop.

``python -m tools.proofs.pyroute2``. Each way of importing is measured in interpreters of its own,
over what the agent has imported anyway; ours is services.agent.netlink, which the agent speaks. The
last lines say why netlink has a thread, whoever packs its requests.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from statistics import median
from types import MappingProxyType
from typing import Final, NamedTuple

RUNS: Final = 5
MEASURE: Final = """
import asyncio, ipaddress, logging, socket, struct, subprocess, time
def kibibytes():
    lines = open("/proc/self/smaps_rollup")
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
before, start = kibibytes(), time.perf_counter()
{load}
print((time.perf_counter() - start) * 1e3, kibibytes() - before)
"""
WAYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "pyroute2.iproute.linux": "import pyroute2.iproute.linux",
        "the same, pyroute2's __init__ cut out": """
import importlib.util, sys, types
package = types.ModuleType("pyroute2")
package.__path__ = list(importlib.util.find_spec("pyroute2").submodule_search_locations)
sys.modules["pyroute2"] = package
import pyroute2.iproute.linux""",
        "services.agent.netlink": "import services.agent.netlink.queries, services.agent.netlink.tc",
    }
)
CALLS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "AsyncIPRoute on uvloop": """
import uvloop
from pyroute2 import AsyncIPRoute
async def call():
    async with AsyncIPRoute() as netlink:
        return [link async for link in await netlink.get_links()]
uvloop.run(call())""",
        "IPRoute in a running loop": """
import uvloop
from pyroute2 import IPRoute
async def call():
    with IPRoute() as netlink:
        return netlink.link_lookup(ifname="lo")
uvloop.run(call())""",
    }
)
STALLS: Final = """
import time
from statistics import median
from services.agent.netlink.requests import delete_link, new_local_veth
from services.agent.netlink.rtnetlink import RtNetlink
made, removed = [], []
with RtNetlink() as netlink:
    for _ in range(50):
        for request, times in ((new_local_veth("a", peer="b", mtu_bytes=1500), made), (delete_link("a"), removed)):
            start = time.perf_counter()
            netlink.call(*request)
            times.append((time.perf_counter() - start) * 1e3)
for what, times in (("made", made), ("removed", removed)):
    print(f"a veth pair is {what} in {median(times):.1f} ms (at most {max(times):.1f}), which a loop would wait for")
"""


class Cost(NamedTuple):
    """Cost of an import: time, and memory that no other process shares."""

    milliseconds: float
    kibibytes: float


def measure(load: str) -> Cost:
    """Return the median cost of an import."""
    costs = [Cost(*map(float, _run(MEASURE.format(load=load)).stdout.split())) for _ in range(RUNS)]
    return Cost(*map(median, zip(*costs, strict=True)))


def table(costs: Mapping[str, Cost]) -> str:
    """Return a line per way of importing."""
    rows = [("", "ms", "MB"), *((way, f"{cost[0]:.0f}", f"{cost[1] * 1024 / 1e6:.1f}") for way, cost in costs.items())]
    return "\n".join(f"{way:<40}{time:>8}{size:>8}" for way, time, size in rows)


def outcome(returncode: int, stderr: str) -> str:
    """Say how a program ended: the last line of its traceback."""
    lines: Sequence[str] = [line for line in stderr.splitlines() if line.strip() and "never awaited" not in line]
    errors = [line for line in lines if not line.startswith(" ") and "Error" in line.partition(":")[0]]
    return "works" if not returncode else errors[-1] if errors else f"ends with {returncode}"


def main() -> None:
    """Measure, try, and print."""
    print(table({way: measure(load) for way, load in WAYS.items()}))
    for call, program in CALLS.items():
        run = _run(program)
        print(f"{call}: {outcome(run.returncode, run.stderr)}")
    print(_run(STALLS, "unshare", "--net").stdout, end="")


def _run(program: str, *inside: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    command = [*inside, sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)


if __name__ == "__main__":
    main()
