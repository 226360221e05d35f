"""Import-linter's contracts, as pyproject.toml has them, refuse what they are about."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.tree import ROOT

PACKAGES = ("cilia", "services", "laboratory")
BROKEN = {
    "services.ipam.one": (
        "import services.identity.requests",
        "services.ipam is not allowed to import services.identity",
    ),
    "services.recorder.one": (
        "import services.agent.errors",
        "services.recorder is not allowed to import services.agent",
    ),
    "cilia.kvstore.one": ("import services.ipam.errors", "cilia is not allowed to import services"),
    "cilia.table.one": ("import laboratory.layout", "cilia is not allowed to import laboratory"),
    "services.agent.one": ("import laboratory.layout", "services is not allowed to import laboratory"),
    "cilia.contracts.one": ("import cilia.errors", "cilia.contracts is not allowed to import cilia.errors"),
    "cilia.contracts.two": ("import cilia.abi", "cilia.contracts is not allowed to import cilia.abi"),
    "cilia.policy.one": ("import cilia.telemetry", "cilia.policy is not allowed to import cilia.telemetry"),
    "cilia.policy.two": ("import asyncio", "cilia.policy is not allowed to import asyncio"),
    "cilia.datapath.one": ("import cilia.bus", "cilia.datapath is not allowed to import cilia.bus"),
    "cilia.kvstore.two": ("import cilia.table.wire", "cilia.kvstore is not allowed to import cilia.table"),
    "services.agent.policy.one": (
        "import services.agent.ipcache.maps",
        "services.agent.policy is not allowed to import services.agent.ipcache",
    ),
    "services.agent.routes.one": (
        "import services.agent.nat.maps",
        "services.agent.routes is not allowed to import services.agent.nat",
    ),
    "services.agent.drift.one": (
        "import services.agent.endpoint.store",
        "services.agent.drift is not allowed to import services.agent.endpoint",
    ),
}
"""Module -> an import that one contract forbids, and the linter's verdict on it."""


def skeleton(root: Path) -> None:
    """Write our packages without a line of code: the modules by their names, and the contracts."""
    (root / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    for package in PACKAGES:
        for module in (ROOT / package).rglob("*.py"):
            empty = root / module.relative_to(ROOT)
            empty.parent.mkdir(parents=True, exist_ok=True)
            empty.touch()
    exceptions = re.findall(r'"([\w.]+) -> ([\w.]+)(?:\.\*)?"', (root / "pyproject.toml").read_text())
    for importer, imported in exceptions:  # an exception that matches nothing is an error to the linter
        name = next(path.stem for path in (root / imported.replace(".", "/")).glob("[a-z]*.py"))
        (root / f"{importer.replace('.', '/')}.py").write_text(f"import {imported}.{name}\n")


def lint(root: Path) -> str:
    """Return the linter's verdict on a tree, as one line."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    ended = subprocess.run([*command, "--no-cache"], cwd=root, capture_output=True, text=True, check=False)
    return " ".join(ended.stdout.split())


@pytest.fixture(scope="module")
def verdict(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("broken")
    skeleton(root)
    (root / "cilia/nowhere.py").touch()
    for module, (text, _) in BROKEN.items():
        (root / f"{module.replace('.', '/')}.py").write_text(text + "\n")
    return lint(root)


@pytest.mark.parametrize("module", BROKEN)
def test_an_import_against_the_layers_is_refused_by_name(verdict: str, module: str) -> None:
    text, refusal = BROKEN[module]
    imported = text.removeprefix("import ")
    assert re.search(rf"{re.escape(refusal)}: .*{re.escape(module)} -> {re.escape(imported)}", verdict), verdict


def test_a_module_of_the_library_without_a_layer_is_refused(verdict: str) -> None:
    assert "cilia.nowhere" in verdict


def test_a_room_of_the_agent_without_a_layer_is_refused(verdict: str) -> None:
    assert "services.agent.one" in verdict


def test_packages_that_import_nothing_break_no_contract(tmp_path: Path) -> None:
    skeleton(tmp_path)
    assert "0 broken" in lint(tmp_path)
