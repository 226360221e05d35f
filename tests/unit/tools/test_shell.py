"""Shell tools: a busy machine for a command, and what tests leave behind."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from laboratory.procfs import start_time
from laboratory.wait import block_until

ROOT = Path(__file__).parents[3]


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("code", [0, 3])
def test_busy_loops_run_beside_the_command_and_end_with_it_whatever_comes_of_it(code: int) -> None:
    wanted = len(os.sched_getaffinity(0))
    count = f"ps --ppid $PPID -o args= | grep -c '[w]hile True: pass' | grep -qx {wanted}"
    await_loops = f"for _ in $(seq 300); do {count} && break; sleep 0.1; done"
    ended = run("tools/busy", "sh", "-c", f"{await_loops}; ps --ppid $PPID -o pid=,args=; exit {code}")
    assert ended.returncode == code
    loops = [int(line.split()[0]) for line in ended.stdout.splitlines() if "while True: pass" in line]
    assert len(loops) == wanted
    block_until(lambda: not any(start_time(pid) for pid in loops))


@contextmanager
def process_called(name: str) -> Iterator[None]:
    process = subprocess.Popen(["bash", "-c", f"exec -a '{name}' sleep 600"])
    try:
        block_until(lambda: name.encode() in Path(f"/proc/{process.pid}/cmdline").read_bytes())
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("service", ["agent", "identity", "ipam", "policy", "recorder"])
def test_a_service_that_still_runs_is_left_over_unless_it_was_there_before(service: str, tmp_path: Path) -> None:
    name = f"python -m services.{service} --cluster left-over"
    with process_called(name):
        found = run("tools/leftovers")
        assert found.returncode == 1
        assert name in found.stdout
        (tmp_path / "before").write_text(found.stdout)
        assert name not in run("tools/leftovers", str(tmp_path / "before")).stdout
