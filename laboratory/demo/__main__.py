"""The demo: three nodes, a dozen pods, policy that decides over real requests, changes live, and
survives a killed agent.

``python -m laboratory.demo [--keep]``. Everything shown is measured in this run.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from typing import Final

from cilia.errors import Failure
from laboratory.cluster import LocalCluster
from laboratory.demo.changes import apply_policies, change_live, kill_agent
from laboratory.demo.requests import try_requests
from laboratory.demo.screen import Figures, Style, align, print_figures, print_title, say, styled
from laboratory.demo.shop import ALLOWED, EXAMPLES, HTTP, PODS, REQUESTS
from laboratory.pod import Pod

NAME: Final = "demo"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; 0 if everything came out as it should."""
    parser = argparse.ArgumentParser(description="See a cluster enforce policy, on this machine.")
    parser.add_argument("--keep", action="store_true", help="leave the cluster up")
    keep = parser.parse_args(argv).keep
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(keep)
    except Failure as failure:
        say(styled(Style.RED, str(failure)))
        return failure.exit_code
    except KeyboardInterrupt:
        return 130


def _run(keep: bool) -> int:
    started = time.monotonic()
    figures: Figures = {}
    cluster = _start(figures)
    try:
        surprises = asyncio.run(_show(cluster, figures))
    except BaseException:
        cluster.down()
        raise
    if keep:
        _explain_what_is_kept()
    else:
        cluster.down()
    _conclude(surprises, figures, time.monotonic() - started)
    return 1 if surprises else 0


def _start(figures: Figures) -> LocalCluster:
    print_title("A cluster of three nodes on this machine")
    started = time.monotonic()
    cluster = LocalCluster.up(NAME, nodes=3)
    took = f"{time.monotonic() - started:.1f} s"
    figures["cluster of three nodes, healthy"] = took
    say(f"etcd, NATS, four services, three agents: healthy in {took}\n")
    return cluster


async def _show(cluster: LocalCluster, figures: Figures) -> list[str]:
    pods = await _connect(cluster, figures)
    surprises = await try_requests(cluster, pods, "Without a policy everybody reaches everybody", allowed=set(REQUESTS))
    print_title("Policies: the shop denies by default, and says who may talk")
    figures["four policies, in force on three nodes"] = apply_policies(cluster, EXAMPLES / "shop")
    surprises += await try_requests(cluster, pods, "The same requests now", allowed=ALLOWED)
    surprises += await change_live(cluster, pods, figures)
    return surprises + await kill_agent(cluster, pods, figures)


async def _connect(cluster: LocalCluster, figures: Figures) -> dict[str, Pod]:
    print_title("A dozen pods in two namespaces, each with a small HTTP server")
    started = time.monotonic()
    pods = [cluster.pod(*each) for each in PODS]
    connected = time.monotonic() - started
    cluster.serve_http(*pods, port=HTTP)
    columns = [styled(Style.BOLD, column) for column in ("pod", "node", "ipv4", "ipv6", "identity")]
    rows = [(pod.name, pod.node, pod.ipv4, pod.ipv6, str(pod.endpoint.identity)) for pod in pods]
    say(align([columns, *rows]))
    each = f"{connected * 1e3 / len(pods):.0f} ms"
    figures["a pod, connected with policy in force"] = each
    say(f"\nconnected in {each} each, namespace included\n")
    return {pod.name: pod for pod in pods}


def _explain_what_is_kept() -> None:
    print_title("The cluster stays up; try")
    for line in (
        "cilia status",
        "cilia endpoint list",
        "cilia policy list",
        "cilia policy get --endpoint shop/db",
        "cilia monitor --drops",
        f"cilia cluster down --name {NAME}",
    ):
        say(f"  .venv/bin/{line}")
    say()


def _conclude(surprises: list[str], figures: Figures, seconds: float) -> None:
    print_figures(figures)
    if surprises:
        say(styled(Style.RED, "Not as it should be:") + "\n  " + "\n  ".join(surprises))
    else:
        well = styled(Style.GREEN, "Everything as policy says, nothing lost")
        say(f"{well}, in {seconds:.0f} s.")


if __name__ == "__main__":
    sys.exit(main())
