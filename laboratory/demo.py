"""The demo: three nodes, a dozen pods, policy that decides over real requests, changes live, and
survives a killed agent.

``python -m laboratory.demo [--keep]``. Everything shown is measured in this run.
"""

import argparse
import asyncio
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cilia.contracts.flow_events import Flow
from cilia.errors import Failure
from laboratory.attempts import get
from laboratory.cluster import LocalCluster
from laboratory.echo_servers import serve_udp
from laboratory.pod import Pod
from laboratory.streams import Tally, steady_udp

NAME: Final = "demo"
EXAMPLES: Final = Path(__file__).parent.parent / "examples"
HTTP: Final = 80
BACKEND: Final = {"tier": "backend"}
PODS: Final = (
    ("node1", "edge", "gateway-1", {"app": "gateway"}),
    ("node2", "edge", "gateway-2", {"app": "gateway"}),
    ("node3", "edge", "monitoring", {"app": "monitoring"}),
    ("node1", "shop", "frontend-1", {"app": "frontend"}),
    ("node2", "shop", "frontend-2", {"app": "frontend"}),
    ("node3", "shop", "frontend-3", {"app": "frontend"}),
    ("node1", "shop", "catalog-1", {"app": "catalog"} | BACKEND),
    ("node3", "shop", "catalog-2", {"app": "catalog"} | BACKEND),
    ("node2", "shop", "cart-1", {"app": "cart"} | BACKEND),
    ("node3", "shop", "cart-2", {"app": "cart"} | BACKEND),
    ("node2", "shop", "db", {"app": "db"}),
    ("node1", "shop", "batch", {"app": "batch"}),
)
REQUESTS: Final = (
    ("edge/gateway-1", "shop/frontend-1"),
    ("edge/gateway-1", "shop/frontend-3"),
    ("shop/frontend-1", "shop/catalog-1"),
    ("shop/frontend-2", "shop/cart-2"),
    ("shop/catalog-1", "shop/db"),
    ("shop/cart-2", "shop/db"),
    ("edge/gateway-1", "shop/db"),
    ("shop/frontend-1", "shop/db"),
    ("shop/batch", "shop/catalog-2"),
    ("edge/monitoring", "shop/catalog-2"),
)
Figures = dict[str, str]
"""What was measured, for the summary."""

console = Console(highlight=False, soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; 0 if everything came out as it should."""
    parser = argparse.ArgumentParser(description="See a cluster enforce policy, on this machine.")
    parser.add_argument("--keep", action="store_true", help="leave the cluster up")
    keep = parser.parse_args(argv).keep
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(keep)
    except Failure as failure:
        console.print(f"[red]{escape(str(failure))}[/]")
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
    _title("A cluster of three nodes on this machine")
    started = time.monotonic()
    cluster = LocalCluster.up(NAME, nodes=3)
    took = f"{time.monotonic() - started:.1f} s"
    figures["cluster of three nodes, healthy"] = took
    console.print(f"etcd, NATS, three services, three agents: healthy in {took}\n")
    return cluster


async def _show(cluster: LocalCluster, figures: Figures) -> list[str]:
    pods = await _connect(cluster, figures)
    surprises = await _try_requests(
        cluster, pods, "Without a policy everybody reaches everybody", allowed=set(REQUESTS)
    )
    _title("Policies: the shop denies by default, and says who may talk")
    figures["four policies, in force on three nodes"] = _apply(EXAMPLES / "shop")
    expected = set(REQUESTS[:6])
    surprises += await _try_requests(cluster, pods, "The same requests now", allowed=expected)
    surprises += await _change_live(cluster, pods, expected, figures)
    return surprises + await _kill_agent(cluster, pods, figures)


async def _connect(cluster: LocalCluster, figures: Figures) -> dict[str, Pod]:
    _title("A dozen pods in two namespaces, each with a small HTTP server")
    started = time.monotonic()
    pods = [cluster.pod(*each) for each in PODS]
    connected = time.monotonic() - started
    cluster.serve_http(*pods, port=HTTP)
    table = Table("pod", "node", "ipv4", "ipv6", "identity", box=None, header_style="bold")
    for pod in pods:
        table.add_row(pod.name, pod.node, pod.ipv4, pod.ipv6, str(pod.endpoint.identity))
    console.print(table)
    each = f"{connected * 1e3 / len(pods):.0f} ms"
    figures["a pod, connected with policy in force"] = each
    console.print(f"\nconnected in {each} each, namespace included\n")
    return {pod.name: pod for pod in pods}


async def _try_requests(
    cluster: LocalCluster, pods: dict[str, Pod], title: str, *, allowed: set[tuple[str, str]]
) -> list[str]:
    """Try the demo's requests by IPv4 and IPv6; return those that came out otherwise than policy
    says.
    """
    _title(title)
    tries = [(client, server, address) for client, server in REQUESTS for address in pods[server].addresses]
    async with _watch_drops(cluster) as drops:
        answers = await asyncio.gather(*(get(pods[client], address, HTTP) for client, _, address in tries))
    table = Table(box=None, show_header=False)
    surprises = []
    passed: dict[tuple[str, str], list[bool]] = {}
    for (client, server, address), answer in zip(tries, answers, strict=True):
        passed.setdefault((client, server), []).append(answer == server)
        if (answer == server) != ((client, server) in allowed):
            surprises.append(f"{client} -> {server} ({address}): {'passed' if answer else 'did not pass'}")
    for (client, server), outcomes in passed.items():
        outcome = " ".join("[green]200 OK[/]" if passed else "[red]dropped[/]" for passed in outcomes)
        reason = "" if all(outcomes) else _reason(drops.get((client, server)))
        table.add_row(client, f"-> {server}", outcome, reason)
    console.print(table)
    console.print()
    return surprises


def _reason(drop: Flow | None) -> str:
    if drop is None:
        return "[dim]no event[/]"
    return f"[dim]{drop.reason}, {drop.direction} on {drop.node}[/]"


@asynccontextmanager
async def _watch_drops(cluster: LocalCluster) -> AsyncIterator[dict[tuple[str, str], Flow]]:
    """Collect the drops that ``cilia monitor`` shows during the block, by the names of both ends."""
    drops: dict[tuple[str, str], Flow] = {}
    words = ("--cluster", cluster.layout.name, "monitor", "--drops", "-o", "json")
    monitor = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cilia.commands.cli", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert monitor.stdout is not None
    assert monitor.stderr is not None
    await monitor.stderr.readline()  # it listens

    async def collect(lines: asyncio.StreamReader) -> None:
        async for line in lines:
            flow = msgspec.json.decode(line, type=Flow)
            drops[flow.source_endpoint, flow.destination_endpoint] = flow

    collecting = asyncio.create_task(collect(monitor.stdout))
    try:
        yield drops
        await asyncio.sleep(0.5)  # events come in batches
    finally:
        monitor.terminate()
        await monitor.wait()
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)


async def _change_live(
    cluster: LocalCluster, pods: dict[str, Pod], allowed: set[tuple[str, str]], figures: Figures
) -> list[str]:
    """Allow monitoring while it knocks: when the kernels have it, and when its first request
    passes.
    """
    _title("A live change: monitoring may scrape the shop")
    client, server = pods["edge/monitoring"], pods["shop/catalog-2"]
    passed: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def knock() -> None:
        while await get(client, server.ipv4, HTTP, seconds=0.02) is None:
            pass
        passed.set_result(time.time())

    knocking = asyncio.create_task(knock())
    await asyncio.sleep(0.2)
    figures["a live change, in force on three nodes"] = await asyncio.to_thread(_apply, EXAMPLES / "live")
    await asyncio.wait_for(passed, 5)
    await knocking
    console.print("and its requests pass.\n")
    return await _try_requests(
        cluster, pods, "The same requests, once more", allowed=allowed | {("edge/monitoring", "shop/catalog-2")}
    )


def _apply(path: Path) -> str:
    """Apply policies by the command line, as a user would; return how long it took until the last
    node had them.
    """
    console.print(f"[bold]$ cilia policy apply -f {path.relative_to(EXAMPLES.parent)} --wait[/]")
    command = [
        sys.executable,
        "-m",
        "cilia.commands.cli",
        "--cluster",
        NAME,
        "policy",
        "apply",
        "-f",
        str(path),
        "--wait",
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    console.print((run.stdout + run.stderr).strip(), soft_wrap=True)
    if run.returncode:
        raise DemoFailed("policy apply", run.stderr)
    console.print()
    slowest = re.search(r"slowest ([0-9.]+ ms)", run.stderr)
    return slowest[1] if slowest else "-"


class DemoFailed(Failure):
    """A step of the demo failed."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(f"{step}: {reason.strip()}")


async def _kill_agent(cluster: LocalCluster, pods: dict[str, Pod], figures: Figures) -> list[str]:
    """kill -9 an agent under traffic, on its node and across nodes, and start it again."""
    _title("An agent killed (-9) and restarted under traffic")
    server = pods["shop/frontend-1"]
    near, far = pods["edge/gateway-1"], pods["edge/gateway-2"]
    echo = await serve_udp(server, HTTP)
    try:
        async with steady_udp(near, server.ipv4, HTTP) as same_node, steady_udp(far, server.ipv6, HTTP) as across:
            await asyncio.sleep(0.5)
            await asyncio.to_thread(cluster.kill, "agent/node1")
            await asyncio.sleep(1.0)
            started = time.monotonic()
            await asyncio.to_thread(cluster.start, "agent/node1")
            figures["a killed agent, ready again"] = f"{time.monotonic() - started:.2f} s"
            console.print(f"dead for 1 s, then ready {figures['a killed agent, ready again']} after its start")
            await asyncio.sleep(0.5)
    finally:
        echo.close()
    _print_tally("on one node, IPv4", same_node)
    _print_tally("across nodes, IPv6", across)
    figures["packets lost meanwhile"] = f"{same_node.lost + across.lost} of {same_node.sent + across.sent}"
    console.print()
    return [f"{tally.lost} packets lost" for tally in (same_node, across) if tally.lost or not tally.received]


def _print_tally(where: str, tally: Tally) -> None:
    colour = "red" if tally.lost else "green"
    console.print(f"{where}: {tally.sent} packets sent, [{colour}]{tally.lost} lost[/]")


def _explain_what_is_kept() -> None:
    _title("The cluster stays up; try")
    for line in (
        "cilia status",
        "cilia endpoint list",
        "cilia policy list",
        "cilia policy get --endpoint shop/db",
        "cilia monitor --drops",
        f"cilia cluster down --name {NAME}",
    ):
        console.print(f"  .venv/bin/{line}")
    console.print()


def _conclude(surprises: list[str], figures: Figures, seconds: float) -> None:
    _title("Measured in this run")
    table = Table(box=None, show_header=False)
    for what, figure in figures.items():
        table.add_row(what, f"[bold]{figure}[/]")
    console.print(table)
    console.print()
    if surprises:
        console.print("[red]Not as it should be:[/]\n  " + "\n  ".join(surprises))
    else:
        console.print(f"[green]Everything as policy says, nothing lost[/], in {seconds:.0f} s.")


def _title(text: str) -> None:
    console.print(f"[bold cyan]{text}[/]")


if __name__ == "__main__":
    sys.exit(main())
