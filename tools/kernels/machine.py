"""One boot of a kernel in QEMU, and its guest's report."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tools.kernels.images import CACHE, ROOT, CannotPrepare, Image

QEMU: Final = "qemu-system-x86_64"
PROCESSOR: Final = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt"
MEMORY_MIB: Final = 3072


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of one step."""

    passed: bool
    seconds: float
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """Report of one guest; a step that it didn't reach is missing."""

    release: str
    console: Path
    steps: Mapping[str, Outcome] = field(default_factory=dict)
    complexity: str = ""


def snapshot() -> Path:
    """Copy the project, as it is built now, so that no change reaches a guest; return the copy."""
    tree = CACHE / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv", "build", ".*_cache"))
    return tree


def boot(image: Image, steps: Iterable[str], limit_seconds: int, *, accept: bool) -> Report:
    """Boot, wait until the guest has gone, return its report.

    ``accept``: costs of programs are measured, and growth beyond the records is no failure.
    """
    console, results = CACHE / f"{image.release}.console", CACHE / f"{image.release}.results"
    results.unlink(missing_ok=True)
    parameters = kernel_parameters(snapshot(), steps, accept=accept)
    command = qemu_command(image, parameters, console=console, results=results)
    try:
        ended = subprocess.run(command, timeout=limit_seconds, capture_output=True, text=True, check=False)
    except FileNotFoundError as missing:
        raise CannotPrepare("qemu is needed: apt-get install qemu-system-x86") from missing
    except subprocess.TimeoutExpired:
        return read_report(image.release, console, results)
    if ended.returncode:
        raise CannotPrepare(f"{QEMU}: {ended.stderr.strip()}")
    return read_report(image.release, console, results)


def kernel_parameters(tree: Path, steps: Iterable[str], *, accept: bool) -> str:
    """Return the kernel's command line; unknown words become the guest's environment."""
    words = ["console=ttyS0", "loglevel=4", "panic=-1", "mitigations=off"]
    words += [f"CILIA_TREE={tree}", f"CILIA_PYTHON={sys.executable}", f"CILIA_STEPS={','.join(steps)}"]
    return " ".join([*words, *(["CILIA_ACCEPT=1"] if accept else [])])


def qemu_command(image: Image, parameters: str, *, console: Path, results: Path) -> list[str]:
    """Return the command that boots an image over this machine's root, which it only reads.

    The processor is emulated: KVM isn't everywhere, and what is tested doesn't depend on speed.
    """
    return [
        *(QEMU, "-accel", "tcg,thread=multi", "-cpu", PROCESSOR, "-smp", "2", "-m", str(MEMORY_MIB)),
        *("-kernel", str(image.kernel), "-initrd", str(image.initramfs), "-append", parameters),
        *("-nodefaults", "-nographic", "-no-reboot"),
        *("-serial", f"file:{console}", "-serial", f"file:{results}"),
        *("-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"),
    ]


def read_report(release: str, console: Path, results: Path) -> Report:
    """Return the report that a guest has written; a line cut short by its end is left out."""
    steps: dict[str, Outcome] = {}
    complexity = ""
    for line in results.read_text(errors="replace").splitlines() if results.exists() else ():
        try:
            said: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        complexity = said.get("complexity", complexity)
        if "step" in said:
            steps[said["step"]] = Outcome(said["passed"], said["seconds"], said["detail"])
    return Report(release, console, steps, complexity)
