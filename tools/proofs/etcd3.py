"""Proof that etcd3 0.12.0 can't be the client: it needs an old protobuf, and loses events.

``python -m tools.proofs.etcd3``. etcd3 goes into a throwaway virtual environment, and watches the
same keys of the same etcd as our own client does, while one writer puts up to 300 values a second
and etcd is killed twice.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Final

from cilia.errors import Unavailable
from cilia.kvstore import Etcd, EtcdConfig, connect_kvstore
from laboratory.servers import Server, start_etcd

WRITE_SECONDS: Final = 12.0
PUTS_A_SECOND: Final = 300
KILL_AT_SECONDS: Final = (2.5, 3.0)
"""Delays of the kills: after the start, and after the first kill."""
OTLP: Final = "opentelemetry-exporter-otlp-proto-http>=1.45"

WATCH = """
import sys, time, etcd3
host, port = sys.argv[1].split(":")
client = etcd3.client(host=host, port=int(port))
def show(response):
    if isinstance(response, Exception):
        print("callback got", type(response).__name__, file=sys.stderr)
        return
    for event in response.events:
        print(event.value.decode(), flush=True)
client.add_watch_prefix_callback("w/", show, start_revision=1)
time.sleep(3600)
"""

LIMIT = """
import sys, etcd3
host, port = sys.argv[1].split(":")
print(len(list(etcd3.client(host=host, port=int(port)).get_prefix("limit/", limit=5))))
"""


def make_environment(directory: Path) -> Path:
    """Install etcd3 with the protobuf that it needs; return the environment's interpreter."""
    venv.create(directory, with_pip=True)
    python = directory / "bin/python"
    subprocess.run([python, "-m", "pip", "-q", "install", "etcd3==0.12.0", "protobuf<4"], check=True)
    return python


def show_conflicts(python: Path) -> None:
    """Show that etcd3 fails beside our protobuf, and its own protobuf beside our exporter."""
    packages = next((python.parent.parent / "lib").glob("python*/site-packages"))
    beside = f"import sys; sys.path.append({str(packages)!r}); "
    beside += "import google.protobuf as p; print(p.__version__); import etcd3"
    done = subprocess.run([sys.executable, "-c", beside], capture_output=True, text=True, check=False)
    outcome = "ok" if done.returncode == 0 else last_error(done.stderr)
    print(f"import beside protobuf {done.stdout.strip()}: {outcome}")
    install = [str(python), "-m", "pip", "install", "--dry-run", "etcd3==0.12.0", "protobuf<4", OTLP]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    lines = [
        line.strip() for line in done.stderr.splitlines() if line.startswith("ERROR") or "depends on proto" in line
    ]
    print(f"pip install etcd3 'protobuf<4' '{OTLP}': {'resolved' if done.returncode == 0 else 'refused'}")
    print(*(f"    {line}" for line in dict.fromkeys(lines)), sep="\n")


def last_error(text: str) -> str:
    """Return the line of a traceback that names the error; "no error" if none does."""
    return next((line for line in text.splitlines() if line.partition(":")[0].endswith("Error")), "no error")


async def write(etcd: Etcd, acknowledged: list[str]) -> None:
    """Put distinct values; keep those that etcd acknowledged."""
    loop = asyncio.get_running_loop()
    end = loop.time() + WRITE_SECONDS
    number, due = 0, loop.time()
    while loop.time() < end:
        number += 1
        try:
            await etcd.put("w/key", str(number).encode())
            acknowledged.append(str(number))
        except Unavailable:
            pass  # nobody was promised anything
        due = max(due + 1 / PUTS_A_SECOND, loop.time())
        await asyncio.sleep(due - loop.time())


async def watch_with_ours(etcd: Etcd, received: list[str]) -> None:
    """Collect the values that our client sees, for ever."""
    async with aclosing(etcd.watch("w/", 1)) as batches:
        async for batch in batches:
            received.extend(event.record.value.decode() for event in batch.events)


@asynccontextmanager
async def watching_with_etcd3(python: Path, address: str, received: list[str]) -> AsyncIterator[None]:
    """Collect the values that etcd3's callback is given, in the throwaway environment."""
    command = (str(python), "-c", WATCH, address)
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        yield
    finally:
        process.kill()
        received.extend((await process.stdout.read()).decode().split())
        for line in (await process.stderr.read()).decode().splitlines():
            if "callback got" in line:
                print(f"etcd3's {line}; it is not called again")


async def kill_test(python: Path, server: Server) -> int:
    """Run both clients through two kills; return the number of events that ours lost."""
    acknowledged, ours, theirs = list[str](), list[str](), list[str]()
    async with connect_kvstore(EtcdConfig(endpoints=(server.address,), timeout_seconds=1)) as etcd:
        watching = asyncio.create_task(watch_with_ours(etcd, ours))
        async with watching_with_etcd3(python, server.address, theirs):
            writing = asyncio.create_task(write(etcd, acknowledged))
            for seconds in KILL_AT_SECONDS:
                await asyncio.sleep(seconds)
                await server.restart(after_seconds=0.3)
            await writing
            await asyncio.sleep(3)  # whoever still listens has everything by now
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    print(comparison(acknowledged, {"etcd3 0.12.0": theirs, "cilia.kvstore": ours}))
    return len(set(acknowledged) - set(ours))


def comparison(acknowledged: Sequence[str], received: Mapping[str, Sequence[str]]) -> str:
    """Return a table of clients: the events that each received, lost, and received twice."""
    lines = [f"{'client':<14}{'acknowledged':>14}{'received':>10}{'lost':>8}{'twice':>8}"]
    for name, events in received.items():
        lost, twice = len(set(acknowledged) - set(events)), len(events) - len(set(events))
        lines.append(f"{name:<14}{len(acknowledged):>14}{len(events):>10}{lost:>8}{twice:>8}")
    return "\n".join(lines)


async def show_limit(python: Path, server: Server) -> None:
    """Show that etcd3 ignores a limit."""
    async with connect_kvstore(EtcdConfig(endpoints=(server.address,))) as etcd:
        await etcd.put_many((f"limit/{number}", b"") for number in range(25))
    done = subprocess.run([python, "-c", LIMIT, server.address], capture_output=True, text=True, check=True)
    print(f"etcd3's get_prefix(limit=5) of 25 keys returned {done.stdout.strip()}")


def main() -> int:
    """Show everything; fails if our own client lost an event."""
    os.environ.setdefault("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    with tempfile.TemporaryDirectory(prefix="cilia-proof-") as name:
        directory = Path(name)
        python = make_environment(directory / "venv")
        show_conflicts(python)
        with start_etcd(directory) as server:
            asyncio.run(show_limit(python, server))
            return 1 if asyncio.run(kill_test(python, server)) else 0


if __name__ == "__main__":
    sys.exit(main())
