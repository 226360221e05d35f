"""The steps, inside the guest: each a command of its own, its outcome a line of JSON on the second
serial port.
"""

import ctypes
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

RESULTS: Final = Path("/dev/ttyS1")
POWER_OFF: Final = 0x4321FEDC
"""LINUX_REBOOT_CMD_POWER_OFF."""
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
    """Run one step and report it; what it said goes to the console, its last line into the report."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    print(f"--- {step}\n{done.stdout}", flush=True)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    summary = " ".join(re.sub(r" in [\d.:s() ]+$", "", lines[-1]).split()) if lines else ""
    report(step=step, passed=done.returncode == 0, seconds=round(time.monotonic() - began, 1), detail=summary)


def attachment() -> str:
    """Tell how programs are attached on this kernel."""
    from cilia.datapath.features import missing_features

    return "clsact" if any("TCX" in missing for missing in missing_features()) else "TCX"


def main() -> None:
    os.environ.update(PATH="/usr/sbin:/usr/bin:/sbin:/bin", HOME="/tmp", PYTHONDONTWRITEBYTECODE="1")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    report(step="boot", passed=True, seconds=time.monotonic(), detail=attachment())
    wanted = os.environ.get("CILIA_STEPS", "").split(",")
    for step, arguments in STEPS.items():
        if step in wanted:
            accepted = "CILIA_ACCEPT" in os.environ and "--check" in arguments
            perform(step, arguments[:-1] if accepted else arguments)
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
