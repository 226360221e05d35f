"""Steps inside the guest: each a command, its outcome a line of JSON on the second serial port."""

import ctypes
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

RESULTS: Final = Path("/dev/ttyS1")
POWER_OFF: Final = 0x4321FEDC
"""LINUX_REBOOT_CMD_POWER_OFF of reboot(2)."""
PYTEST: Final = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "900")
STEPS: Final = {
    "load": ("-m", "tools.complexity", "--check"),
    "binding": (*PYTEST, "tests/bpf/binding"),
    "packets": (*PYTEST, "tests/bpf/datapath"),
    "fuzz": ("-m", "tests.bpf.fuzz", "--packets", "2000"),
    "agent": (*PYTEST, "tests/cluster/agent/test_agent.py", "-k", "talks or killed or deleted or denied"),
}
"""Step -> arguments of Python; in order, the later ones use more."""


def report(**result: object) -> None:
    """Tell the host."""
    with RESULTS.open("a") as out:
        out.write(json.dumps(result) + "\n")


def perform(step: str, arguments: tuple[str, ...]) -> None:
    """Run one step; its output goes to the console, the last line of it into the report."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    print(f"--- {step}\n{done.stdout}", flush=True)
    seconds = round(time.monotonic() - began, 1)
    report(step=step, passed=done.returncode == 0, seconds=seconds, detail=summary(done.stdout))


def summary(output: str) -> str:
    """Return the last line of a step's output, without pytest's duration."""
    lines = [line for line in output.splitlines() if line.strip()]
    return " ".join(re.sub(r" in [\d.:s() ]+$", "", lines[-1].rstrip()).split()) if lines else ""


def planned(wanted: Collection[str], *, accept: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the wanted steps with their arguments, in the order of STEPS.

    ``accept``: costs are measured and not compared with the records.
    """
    for step, arguments in STEPS.items():
        if step in wanted:
            yield step, arguments[:-1] if accept and arguments[-1] == "--check" else arguments


def attachment() -> str:
    """Return the means by which programs are attached on this kernel."""
    from cilia.datapath.features import missing_features

    return "clsact" if any("TCX" in missing for missing in missing_features()) else "TCX"


def main() -> None:
    os.environ.update(PATH="/usr/sbin:/usr/bin:/sbin:/bin", HOME="/tmp", PYTHONDONTWRITEBYTECODE="1")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    report(step="boot", passed=True, seconds=time.monotonic(), detail=attachment())
    wanted = os.environ.get("CILIA_STEPS", "").split(",")
    for step, arguments in planned(wanted, accept="CILIA_ACCEPT" in os.environ):
        perform(step, arguments)
    measured = subprocess.run(
        [sys.executable, "-m", "tools.complexity"], stdout=subprocess.PIPE, text=True, check=False
    )
    report(complexity=measured.stdout)


if __name__ == "__main__":
    try:
        main()
    finally:
        sys.stdout.flush()
        os.sync()
        ctypes.CDLL(None).reboot(POWER_OFF)
