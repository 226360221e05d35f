"""A cluster on this machine: comes up healthy, keeps to itself, and goes without a trace, whatever
became of its starter.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from laboratory.cluster import ClusterExists, LocalCluster
from laboratory.command_line import cilia
from laboratory.layout import Layout, netns_path
from laboratory.namespaces import namespaces_of
from laboratory.procfs import is_running, marked_pids
from laboratory.state import load_state
from laboratory.wait import block_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def begin(name: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "cilia.commands.cli", "cluster", "up", "--name", name, "--nodes", "1"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_until_begun(name: str) -> None:
    """Wait until the agent of a cluster runs: the middle of its start."""
    block_until(lambda: any("services.agent" in _command(pid) for pid in marked_pids(name)))


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def traces_of(name: str) -> dict[str, object]:
    """Return whatever bears the name of a cluster."""
    layout = Layout(name)
    files = [str(path) for path in (layout.directory, layout.pins) if path.exists()]
    found = {"processes": marked_pids(name), "namespaces": namespaces_of(layout), "files": files}
    return {kind: left for kind, left in found.items() if left}


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """Give two names of clusters that are this test's alone, and remove what bears them."""
    monkeypatch.delenv("CILIA_CLUSTER", raising=False)
    pair = (f"one-{os.getpid()}", f"two-{os.getpid()}")
    yield pair
    for name in pair:
        cilia("cluster", "down", "--name", name)
    assert [traces_of(name) for name in pair] == [{}, {}]


@pytest.fixture
def name(names: tuple[str, str]) -> str:
    return names[0]


def test_a_cluster_comes_up_healthy_and_goes_without_a_trace(name: str) -> None:
    up = cilia("cluster", "up", "--name", name, "--nodes", "2", "--replicas", "2")
    assert (up.returncode, up.stdout) == (0, "")
    assert "agent/node2" in up.stderr, "progress names what has become healthy"
    shown = cilia("cluster", "status", "--name", name, "-o", "json")
    assert shown.returncode == 0
    states = {row["process"]: row["state"] for row in json.loads(shown.stdout)}
    services = {
        f"service/{service}-{replica}" for service in ("ipam", "identity", "policy", "recorder") for replica in (1, 2)
    }
    assert states == dict.fromkeys({"etcd", "nats", "agent/node1", "agent/node2"} | services, "healthy")
    assert cilia("cluster", "down", "--name", name).returncode == 0
    assert traces_of(name) == {}


def test_two_clusters_at_once_know_nothing_of_each_other(names: tuple[str, str]) -> None:
    with ThreadPoolExecutor() as pool:
        one, two = pool.map(lambda name: LocalCluster.up(name, nodes=1), names)
    one.pod("node1", "shop", "web", {"app": "web"})
    listed = [json.loads(cilia("--cluster", name, "endpoint", "list", "-o", "json").stdout) for name in names]
    assert [len(endpoints) for endpoints in listed] == [1, 0]
    undecided = cilia("node", "list")
    assert undecided.returncode == 2
    assert all(name in undecided.stderr for name in names)
    one.down()
    assert two.problems() == dict.fromkeys(two.state.processes, "")
    two.down()


def test_a_name_in_use_is_refused_and_its_cluster_unharmed(name: str) -> None:
    cluster = LocalCluster.up(name, nodes=1)
    again = cilia("cluster", "up", "--name", name)
    assert again.returncode == 1
    assert f"cluster '{name}' exists" in again.stderr
    assert cluster.problems() == dict.fromkeys(cluster.state.processes, "")
    cluster.down()


def test_of_two_that_start_one_name_at_once_one_does(name: str) -> None:
    def attempt(_: int) -> LocalCluster | None:
        try:
            return LocalCluster.up(name, nodes=1)
        except ClusterExists:
            return None

    with ThreadPoolExecutor() as pool:
        (cluster,) = filter(None, pool.map(attempt, range(4)))
    assert cluster.problems() == dict.fromkeys(cluster.state.processes, "")
    cluster.down()


def test_down_removes_what_a_killed_starter_left(name: str) -> None:
    starter = begin(name)
    wait_until_begun(name)
    starter.kill()
    starter.wait()
    assert traces_of(name)
    assert cilia("cluster", "down", "--name", name).returncode == 0
    assert traces_of(name) == {}


def test_a_starter_that_is_told_to_end_removes_what_it_began(name: str) -> None:
    starter = begin(name)
    wait_until_begun(name)
    starter.send_signal(signal.SIGTERM)
    assert starter.wait(60) == 128 + signal.SIGTERM
    assert traces_of(name) == {}


def test_down_removes_a_cluster_whose_record_is_lost(name: str) -> None:
    LocalCluster.up(name, nodes=1)
    Layout(name).state_file.unlink()
    assert cilia("cluster", "down", "--name", name).returncode == 0
    assert traces_of(name) == {}


def test_a_record_from_before_a_reboot_harms_no_process(name: str) -> None:
    """Process numbers come again after a reboot; the start time tells that they are others'."""
    bystander = subprocess.Popen(["sleep", "60"])
    cluster = LocalCluster.up(name, nodes=1)
    path = cluster.layout.state_file
    text = path.read_text().replace(f'"pid": {cluster.process("nats").pid}', f'"pid": {bystander.pid}')
    path.write_text(text)
    assert load_state(name).processes["nats"].pid == bystander.pid
    try:
        assert cilia("cluster", "down", "--name", name).returncode == 0
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_down_spares_a_command_that_only_entered_a_namespace(name: str) -> None:
    cluster = LocalCluster.up(name, nodes=1)
    visitor = subprocess.Popen(["nsenter", f"--net={netns_path(cluster.layout.hub)}", "sleep", "60"])
    try:
        cluster.down()
        assert visitor.poll() is None
        assert traces_of(name) == {}
    finally:
        visitor.kill()
        visitor.wait()


def test_a_process_that_died_is_reported_and_starts_again_on_demand(name: str) -> None:
    cluster = LocalCluster.up(name, nodes=1)
    died = cluster.process("agent/node1")
    cluster.kill("agent/node1")
    shown = cilia("cluster", "status", "--name", name, "-o", "json")
    assert shown.returncode == 1
    sick = [row for row in json.loads(shown.stdout) if row["state"] != "healthy"]
    assert [row["process"] for row in sick] == ["agent/node1"]
    assert "not running" in sick[0]["state"]
    cluster.start("agent/node1")
    assert not is_running(died)
    assert cilia("cluster", "status", "--name", name).returncode == 0
    cluster.down()
