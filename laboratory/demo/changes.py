"""Changes of the demo under traffic: a policy while requests wait for it, and a killed agent."""

import asyncio
import re
import subprocess
import sys
import time
from pathlib import Path

from cilia.errors import Failure
from laboratory.attempts import get
from laboratory.cluster import LocalCluster
from laboratory.demo.requests import try_requests
from laboratory.demo.screen import Figures, Style, print_title, say, styled
from laboratory.demo.shop import ALLOWED, EXAMPLES, HTTP, SCRAPE
from laboratory.echo_servers import serve_udp
from laboratory.pod import Pod
from laboratory.streams import Tally, steady_udp
from laboratory.wait import PATIENCE_SECONDS


async def change_live(cluster: LocalCluster, pods: dict[str, Pod], figures: Figures) -> list[str]:
    """Allow monitoring while it tries, and wait for its first request that passes."""
    print_title("A live change: monitoring may scrape the shop")
    client, server = (pods[name] for name in SCRAPE)
    passed: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def attempt() -> None:
        while await get(client, server.ipv4, HTTP, seconds=0.02) is None:
            pass
        passed.set_result(time.time())

    attempting = asyncio.create_task(attempt())
    await asyncio.sleep(0.2)
    figures["a live change, in force on three nodes"] = await asyncio.to_thread(
        apply_policies, cluster, EXAMPLES / "live"
    )
    await asyncio.wait_for(passed, PATIENCE_SECONDS)
    await attempting
    say("and its requests pass.\n")
    return await try_requests(cluster, pods, "The same requests, once more", allowed=ALLOWED | {SCRAPE})


def apply_policies(cluster: LocalCluster, path: Path) -> str:
    """Apply policies by the command line; return the time until the last node had them in force."""
    say(styled(Style.BOLD, f"$ cilia policy apply -f {path.relative_to(EXAMPLES.parent)} --wait"))
    command = [
        sys.executable,
        "-m",
        "cilia.commands.cli",
        "--cluster",
        cluster.layout.name,
        "policy",
        "apply",
        "-f",
        str(path),
        "--wait",
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    say((run.stdout + run.stderr).strip())
    if run.returncode:
        raise DemoFailed("policy apply", run.stderr)
    say()
    slowest = re.search(r"slowest ([0-9.]+ ms)", run.stderr)
    return slowest[1] if slowest else "-"


class DemoFailed(Failure):
    """A step of the demo failed."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(f"{step}: {reason.strip()}")


async def kill_agent(cluster: LocalCluster, pods: dict[str, Pod], figures: Figures) -> list[str]:
    """kill -9 an agent under traffic, on its node and across nodes, and start it again."""
    print_title("An agent killed (-9) and restarted under traffic")
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
            say(f"dead for 1 s, then ready {figures['a killed agent, ready again']} after its start")
            await asyncio.sleep(0.5)
    finally:
        echo.close()
    _print_tally("on one node, IPv4", same_node)
    _print_tally("across nodes, IPv6", across)
    figures["packets lost meanwhile"] = f"{same_node.lost + across.lost} of {same_node.sent + across.sent}"
    say()
    return [f"{tally.lost} packets lost" for tally in (same_node, across) if tally.lost or not tally.received]


def _print_tally(where: str, tally: Tally) -> None:
    lost = styled(Style.RED if tally.lost else Style.GREEN, f"{tally.lost} lost")
    say(f"{where}: {tally.sent} packets sent, {lost}")
