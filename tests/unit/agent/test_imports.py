"""Packages that an agent's process never imports: each would cost every node of a cluster."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import services.agent.__main__
found = {name for name in sys.modules for each in FORBIDDEN if name == each or name.startswith(each + ".")}
sys.exit(", ".join(sorted(found)))
"""
FORBIDDEN = (
    "cilia.commands",
    "cilia.kvstore",
    "cilia.policy",
    "laboratory",
    "cffi",  # at run time the compiled binding needs _cffi_backend alone
    "google.protobuf",
    "grpc",
    "multiprocessing",
    "opentelemetry",
    "prometheus_client",
    "pycparser",
    "pyroute2",
    "sqlite3",
    "unittest",
    "yaml",
)


def imported(program: str) -> str:
    """Return which forbidden packages a program imports."""
    whole = program.replace("FORBIDDEN", repr(FORBIDDEN))
    return subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, check=False).stderr.strip()


def test_an_agent_imports_no_heavy_package() -> None:
    assert imported(PROGRAM) == ""


@pytest.mark.parametrize("package", ["yaml", "pyroute2"])
def test_a_heavy_package_would_be_named(package: str) -> None:
    assert package in imported(f"import {package}\n{PROGRAM}").split(", ")
