"""Local clusters found by their state files, and commands where the laboratory is not installed."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from cilia.commands import local_clusters
from cilia.commands.local_clusters import (
    Ambiguous,
    BadClusterName,
    LaboratoryMissing,
    NoSuchCluster,
    cluster_names,
    find_cluster,
    needs_laboratory,
)

WITHOUT_LABORATORY = """
import sys
sys.modules["laboratory"] = None
from cilia.commands.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(local_clusters, "STATE_DIRECTORY", tmp_path)
    monkeypatch.delenv("CILIA_CLUSTER", raising=False)
    return tmp_path


def write(directory: Path, name: str) -> None:
    (directory / name).mkdir()
    state = {"name": name, "nats": "nats://172.31.0.1:4222", "hub": f"cilia-{name}.hub", "etcd": "172.31.0.1:2379"}
    (directory / name / "cluster.json").write_bytes(msgspec.json.encode(state))


def test_the_only_cluster_is_meant_if_none_is_named(directory: Path) -> None:
    write(directory, "one")
    found = find_cluster(None)
    assert (found.name, found.nats, str(found.hub_path)) == (
        "one",
        "nats://172.31.0.1:4222",
        "/run/netns/cilia-one.hub",
    )


def test_of_several_clusters_one_must_be_named(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(directory, "one")
    write(directory, "two")
    with pytest.raises(Ambiguous, match="one, two"):
        find_cluster(None)
    monkeypatch.setenv("CILIA_CLUSTER", "two")
    assert find_cluster(None).name == "two"
    assert find_cluster("one").name == "one", "what is named on the command line goes first"


def test_a_name_that_no_cluster_has_is_refused_with_those_that_there_are(directory: Path) -> None:
    with pytest.raises(NoSuchCluster, match="none is running; start one"):
        find_cluster(None)
    write(directory, "one")
    (directory / "begun").mkdir()
    with pytest.raises(NoSuchCluster, match=r"no cluster .two.; there are: one$"):
        find_cluster("two")
    assert cluster_names() == ("one",), "a directory without a state file is no cluster"


@pytest.mark.parametrize("name", ["../etc", "Upper", "-dash", "x" * 33, "a.b"])
def test_a_name_that_is_none_is_refused(directory: Path, name: str) -> None:
    with pytest.raises(BadClusterName, match="lower case letters"):
        find_cluster(name)


def test_only_the_laboratory_is_missed_in_its_name() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), needs_laboratory():
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401
    with pytest.raises(LaboratoryMissing, match="CILIA_LABORATORY=1"), needs_laboratory():
        import laboratory.no_such_module  # type: ignore[import-untyped]  # noqa: F401


@pytest.mark.parametrize("verb", ["up", "status", "down"])
def test_clusters_without_the_laboratory_end_in_one_line_that_says_how_to_get_it(verb: str) -> None:
    run = run_without_laboratory("cluster", verb)
    assert (run.returncode, run.stdout) == (1, "")
    (line,) = run.stderr.splitlines()
    assert line.startswith("cilia: local clusters need the package 'laboratory'")
    assert "CILIA_LABORATORY=1" in line


def test_other_commands_work_without_the_laboratory() -> None:
    assert run_without_laboratory("--help").returncode == 0, "every noun is parsed"
    assert run_without_laboratory("version").returncode == 0
    run = run_without_laboratory("--cluster", "nowhere", "status")
    assert "no cluster 'nowhere'" in run.stderr


def run_without_laboratory(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line where the laboratory can't be imported."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_LABORATORY, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
