"""State files of local clusters, and the processes that they name."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from cilia.commands import local_clusters
from cilia.commands.local_clusters import NoSuchCluster, find_cluster
from cilia.contracts.ids import NodeName
from laboratory import procfs, state
from laboratory.procfs import cluster_mark, is_running, marked_pids, start_time
from laboratory.state import ClusterState, StartedProcess, UnderlayNode, load_state, names_on_disk
from laboratory.wait import block_until

ONE = ClusterState(
    "one",
    "nats://172.31.0.1:4222",
    "cilia-one.hub",
    "172.31.0.1:2379",
    (UnderlayNode(NodeName("node1"), "172.31.0.11"),),
)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (local_clusters, state):
        monkeypatch.setattr(module, "STATE_DIRECTORY", tmp_path)
    return tmp_path


def test_what_is_saved_is_loaded(directory: Path) -> None:
    ONE.save()
    assert load_state("one") == ONE
    changed = msgspec.structs.replace(ONE, processes={"etcd": StartedProcess(("etcd",), "cilia-one.hub", 7, 8)})
    changed.save()
    assert load_state("one") == changed
    assert [path.name for path in (directory / "one").iterdir()] == ["cluster.json"], "no draft is left"


def test_commands_find_what_the_laboratory_saves(directory: Path) -> None:
    ONE.save()
    found = find_cluster("one")
    assert (found.name, found.nats, found.hub) == (ONE.name, ONE.nats, ONE.hub)


def test_a_cluster_without_a_state_file_is_none_but_left_something(directory: Path) -> None:
    (directory / "begun").mkdir()
    ONE.save()
    assert names_on_disk() == ("begun", "one")
    with pytest.raises(NoSuchCluster, match="there are: one"):
        load_state("begun")


def started(pid: int) -> StartedProcess:
    return StartedProcess((), "", pid, start_time(pid) or 0)


def test_a_process_is_known_by_its_start_time() -> None:
    own = started(os.getpid())
    assert is_running(own)
    later = msgspec.structs.replace(own, started=own.started + 1)
    assert not is_running(later), "another process with its number"


def test_a_process_that_ended_does_not_run_even_before_it_is_reaped() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    record = started(ended.pid)
    block_until(lambda: not is_running(record))
    assert start_time(ended.pid) is None
    ended.wait()
    assert start_time(ended.pid) is None


def test_a_name_in_proc_that_looks_like_fields_confuses_nobody(tmp_path: Path) -> None:
    script = tmp_path / "a) R 1 2"
    script.write_text("#!/bin/sh\nsleep 60\n")
    script.chmod(0o755)
    odd = subprocess.Popen([script])
    try:
        assert (start_time(odd.pid) or 0) >= (start_time(os.getpid()) or 0)
    finally:
        odd.kill()
        odd.wait()


def test_processes_are_found_by_the_mark_of_their_cluster() -> None:
    command = [sys.executable, "-c", "print(flush=True); input()"]
    environment = os.environ | cluster_mark("marked-one")
    marked = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert marked.stdout is not None
        marked.stdout.readline()
        assert marked_pids("marked-one") == {marked.pid}
        assert marked_pids("marked") == set(), "a name that begins like it is another's"
    finally:
        marked.communicate()
    assert procfs.marked_pids("marked-one") == set()
