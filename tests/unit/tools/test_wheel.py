"""Wheels as pip would make them: what they carry, and what they carry only if asked."""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[3]


def packages_of_wheel(directory: Path, **environment: str) -> set[str]:
    """Build the wheel and return the top-level names in it, without those of its metadata."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "CILIA_LABORATORY"} | environment,
        check=True,
        capture_output=True,
    )
    (wheel,) = directory.glob("*.whl")
    names = {name.partition("/")[0] for name in ZipFile(wheel).namelist()}
    return {name for name in names if not name.endswith(".dist-info")}


def test_a_wheel_carries_the_library_and_the_services_only(tmp_path: Path) -> None:
    assert packages_of_wheel(tmp_path) == {"cilia", "services"}


def test_a_wheel_carries_the_laboratory_if_asked(tmp_path: Path) -> None:
    assert packages_of_wheel(tmp_path, CILIA_LABORATORY="1") == {"cilia", "services", "laboratory"}
