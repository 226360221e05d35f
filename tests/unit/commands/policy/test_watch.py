"""``cilia policy watch``: syncs of a directory whose files change, in virtual time."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cilia.commands.policy import watch
from cilia.commands.policy.watch import read_fingerprints, wait_unchanged
from cilia.contracts.messages import Problem, ProblemCode
from cilia.contracts.policies import ApplyPolicies, ChangeAction, PolicyFile, SyncPolicies
from cilia.errors import Refused, Unavailable
from tests.fakes.clock import in_fake_time
from tests.unit.commands.fake_cluster import FakeCluster, Run
from tests.unit.commands.samples import changed

WEB, DB = "CiliumNetworkPolicy/shop/web", "CiliumNetworkPolicy/shop/db"
SYNC, APPLY = "request.policy.sync", "request.policy.apply"
BROKEN = Refused(Problem(ProblemCode.INVALID, "not a policy", "kind", "Pod"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "web.yaml").write_text("web: 1")
    (tmp_path / "db.yml").write_text("db: 1")
    return tmp_path


def follow(
    cluster: FakeCluster, directory: Path, events: dict[float, Callable[[], Any]], *options: str, seconds: float = 30.0
) -> Run:
    """Watch a directory for so long, with events at their times after the beginning."""

    async def script(start: float, sleep: Callable[[float], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        for at, event in sorted(events.items()):
            await sleep(max(start + at - loop.time(), 0))
            event()
        await sleep(max(start + seconds - loop.time(), 0))

    original = watch.watch_directory

    async def bounded(arguments: Any, session: Any) -> int:
        running = asyncio.create_task(original(arguments, session))
        playing = asyncio.create_task(script(asyncio.get_running_loop().time(), asyncio.sleep))
        await asyncio.wait((running, playing), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            playing.cancel()
            return running.result()
        running.cancel()
        return 0

    cluster.monkeypatch.setattr(watch, "watch_directory", bounded)
    run = cluster.run("policy", "watch", str(directory), *options)
    cluster.monkeypatch.setattr(watch, "watch_directory", original)
    return run


def texts(cluster: FakeCluster) -> list[dict[str, str]]:
    """Return the files of each sync."""
    return [{file.name: file.text for file in request.files} for request in cluster.messages(SYNC)]


def test_all_files_of_a_directory_are_synced_once(cluster: FakeCluster, directory: Path) -> None:
    cluster.answers[SYNC] = changed((WEB, ChangeAction.CREATED), (DB, ChangeAction.UNCHANGED))
    run = cluster.run("policy", "watch", str(directory), "--once", "-n", "shop", "--adopt", "--allow-unenforced")
    assert (run.code, run.out, run.err) == (0, f"created   {WEB}\n", "revision 42\n")
    assert cluster.messages(SYNC) == [
        SyncPolicies(
            str(directory),
            (PolicyFile("db.yml", "db: 1"), PolicyFile("web.yaml", "web: 1")),
            adopt=True,
            namespace="shop",
            author="ann",
            allow_unenforced=True,
        )
    ]


def test_an_owner_may_have_a_name_of_its_own(cluster: FakeCluster, directory: Path) -> None:
    cluster.answers[SYNC] = changed()
    cluster.run("policy", "watch", str(directory), "--once", "--owner", "git")
    assert cluster.messages(SYNC)[0].owner == "git"


def test_a_relative_directory_is_recorded_by_its_full_path(cluster: FakeCluster, directory: Path) -> None:
    cluster.answers[SYNC] = changed()
    cluster.monkeypatch.chdir(directory.parent)
    cluster.run("policy", "watch", directory.name, "--once")
    assert cluster.messages(SYNC)[0].owner == str(directory)


@pytest.mark.parametrize("path", ["nowhere", "web.yaml"])
def test_what_is_no_directory_is_named(cluster: FakeCluster, directory: Path, path: str) -> None:
    run = cluster.run("policy", "watch", str(directory / path), "--once")
    assert (run.code, run.err) == (2, f"cilia: {directory / path}: is no directory\n")


def test_a_change_is_synced_and_what_stays_is_not(cluster: FakeCluster, directory: Path) -> None:
    cluster.answers[SYNC] = [changed((WEB, ChangeAction.CREATED)), changed((WEB, ChangeAction.CHANGED), revision=43)]
    run = follow(cluster, directory, {10: lambda: (directory / "web.yaml").write_text("web: two")})
    assert [found["web.yaml"] for found in texts(cluster)] == ["web: 1", "web: two"]
    assert run.out == f"created   {WEB}\nchanged   {WEB}\n"
    assert run.err.splitlines() == [f"watching {directory}; ^C ends", "revision 42", "revision 43"]


def test_files_that_are_saved_one_after_the_other_are_one_revision(cluster: FakeCluster, directory: Path) -> None:
    cluster.answers[SYNC] = changed()

    def save(number: int) -> Callable[[], Any]:
        return lambda: (directory / f"n{number}.yaml").write_text("x" * number)

    follow(cluster, directory, {10 + 0.3 * number: save(number) for number in range(1, 9)})
    assert [len(found) for found in texts(cluster)] == [2, 10]


def test_a_longer_debounce_waits_for_slower_hands(cluster: FakeCluster, directory: Path) -> None:
    cluster.answers[SYNC] = changed()

    def save(number: int) -> Callable[[], Any]:
        return lambda: (directory / f"n{number}.yaml").write_text("x" * number)

    follow(cluster, directory, {10 + 3 * number: save(number) for number in range(1, 5)}, "--debounce", "4")
    assert [len(found) for found in texts(cluster)] == [2, 6]


def test_a_deleted_file_is_missing_from_the_next_sync(cluster: FakeCluster, directory: Path) -> None:
    cluster.answers[SYNC] = changed()
    follow(cluster, directory, {10: (directory / "db.yml").unlink})
    assert [sorted(found) for found in texts(cluster)] == [["db.yml", "web.yaml"], ["web.yaml"]]


def test_other_files_and_hidden_ones_are_no_policies(cluster: FakeCluster, directory: Path) -> None:
    cluster.answers[SYNC] = changed()
    (directory / ".hidden.yaml").write_text("no")
    (directory / "README.md").write_text("no")
    follow(cluster, directory, {10: lambda: (directory / "notes.txt").write_text("no")})
    assert [sorted(found) for found in texts(cluster)] == [["db.yml", "web.yaml"]]


def test_a_volume_that_kubernetes_replaces_is_followed_through_its_links(cluster: FakeCluster, tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "web.yaml").write_text(f"web: {version}")
    mount = tmp_path / "mount"
    mount.mkdir()
    (mount / "..data").symlink_to(tmp_path / "1")
    (mount / "web.yaml").symlink_to("..data/web.yaml")

    def replace() -> None:
        (mount / "..tmp").symlink_to(tmp_path / "2")
        os.replace(mount / "..tmp", mount / "..data")

    cluster.answers[SYNC] = changed()
    follow(cluster, mount, {10: replace})
    assert texts(cluster) == [{"web.yaml": "web: 1"}, {"web.yaml": "web: 2"}]


def test_a_directory_that_is_away_deletes_nothing(cluster: FakeCluster, directory: Path) -> None:
    cluster.answers[SYNC] = changed()
    away = directory.with_name("away")
    follow(cluster, directory, {10: lambda: directory.rename(away), 20: lambda: away.rename(directory)})
    assert all(len(found) == 2 for found in texts(cluster))


def test_changes_by_others_are_put_right_once_a_minute(cluster: FakeCluster, directory: Path) -> None:
    cluster.answers[SYNC] = [
        changed((WEB, ChangeAction.CREATED)),
        changed((WEB, ChangeAction.UNCHANGED)),
        changed((WEB, ChangeAction.CHANGED)),
    ]
    run = follow(cluster, directory, {}, seconds=190.0)
    assert len(cluster.messages(SYNC)) == 4
    assert run.out == f"created   {WEB}\nchanged   {WEB}\nchanged   {WEB}\n"


def refuse(name: str) -> Callable[[Any], Any]:
    """Refuse every request that holds a file."""

    def answer(request: SyncPolicies | ApplyPolicies) -> Any:
        if isinstance(request, SyncPolicies):
            return BROKEN if any(file.name == name for file in request.files) else changed((DB, ChangeAction.CREATED))
        return BROKEN if request.source == name else changed()

    return answer


def test_a_broken_file_keeps_its_policies_and_the_others_are_synced(cluster: FakeCluster, directory: Path) -> None:
    cluster.answers |= {SYNC: refuse("web.yaml"), APPLY: refuse("web.yaml")}
    run = cluster.run("policy", "watch", str(directory), "--once")
    assert run.code == 1
    assert run.err.splitlines() == [
        "revision 42",
        "web.yaml: invalid: not a policy (field kind: 'Pod'); its policies stay as they are",
    ]
    first, second = cluster.messages(SYNC)
    assert (len(first.files), first.keep) == (2, ())
    assert ([file.name for file in second.files], second.keep) == (["db.yml"], ("web.yaml",))
    assert all(request.dry_run for request in cluster.messages(APPLY)), "to find the broken one changes nothing"


def test_a_broken_file_is_said_once_and_again_when_its_error_changes(cluster: FakeCluster, directory: Path) -> None:
    cluster.answers |= {SYNC: refuse("web.yaml"), APPLY: refuse("web.yaml")}
    run = follow(
        cluster,
        directory,
        {
            10: lambda: (directory / "db.yml").write_text("db: two"),
            20: lambda: (directory / "web.yaml").write_bytes(b"\xff"),
        },
    )
    said = [line for line in run.err.splitlines() if line.startswith("web.yaml: ")]
    assert len(said) == 2
    assert "not a policy" in said[0]
    assert "can't decode byte" in said[1]


def test_a_file_that_can_not_be_read_keeps_its_policies(cluster: FakeCluster, directory: Path) -> None:
    (directory / "web.yaml").write_bytes(b"\xff")
    cluster.answers[SYNC] = changed((DB, ChangeAction.CREATED))
    run = cluster.run("policy", "watch", str(directory), "--once")
    assert run.code == 1
    (request,) = cluster.messages(SYNC)
    assert ([file.name for file in request.files], request.keep) == (["db.yml"], ("web.yaml",))


def test_files_that_are_refused_together_change_nothing(cluster: FakeCluster, directory: Path) -> None:
    cluster.answers |= {SYNC: Refused(Problem(ProblemCode.EXHAUSTED, "no room")), APPLY: changed()}
    run = cluster.run("policy", "watch", str(directory), "--once", "-o", "json")
    assert run.code == 1
    assert run.json == {"changed": None, "broken": {"": "exhausted: no room"}}
    people = cluster.run("policy", "watch", str(directory), "--once")
    assert people.err == "exhausted: no room; its policies stay as they are\n"


def test_a_service_that_is_away_is_asked_again_until_it_answers(cluster: FakeCluster, directory: Path) -> None:
    away = Unavailable("policy", "nobody serves 'sync'")
    cluster.answers[SYNC] = [away, away, changed((WEB, ChangeAction.CREATED))]
    run = follow(cluster, directory, {})
    assert run.out == f"created   {WEB}\n"
    assert run.err.splitlines()[1:] == [
        *["policy is unavailable: nobody serves 'sync'; again in a moment"] * 2,
        "revision 42",
    ]


def test_a_service_that_is_away_ends_a_single_sync(cluster: FakeCluster, directory: Path) -> None:
    assert cluster.run("policy", "watch", str(directory), "--once").code == 3


def test_a_program_gets_an_object_for_each_sync_that_changed_something(cluster: FakeCluster, directory: Path) -> None:
    cluster.answers[SYNC] = [changed((WEB, ChangeAction.CREATED)), changed((WEB, ChangeAction.UNCHANGED))]
    run = follow(cluster, directory, {10: (directory / "web.yaml").touch}, "-o", "json")
    found, end = json.JSONDecoder().raw_decode(run.out)
    assert (found["changed"]["changes"][0]["action"], found["broken"]) == ("created", {})
    assert run.out[end:].strip() == "", "a sync without a change is none of a program's business"


def test_fingerprints_tell_a_change_of_content_time_or_file(directory: Path) -> None:
    path = directory / "web.yaml"
    before = read_fingerprints(directory)
    assert before == read_fingerprints(directory)
    assert set(before or ()) == {"web.yaml", "db.yml"}
    os.utime(path, ns=(1, 1))
    later = read_fingerprints(directory)
    assert later != before
    (directory / "new").write_text("web: 1")
    os.utime(directory / "new", ns=(1, 1))
    os.replace(directory / "new", path)
    assert read_fingerprints(directory) != later, "the same size and time, but another file"


@in_fake_time
async def test_files_that_never_rest_are_never_taken(directory: Path) -> None:
    waiting = asyncio.create_task(wait_unchanged(directory, 1.0))
    for number in range(50):
        (directory / "web.yaml").write_text("x" * number)
        await asyncio.sleep(0.9)
    assert not waiting.done()
    assert await waiting == read_fingerprints(directory), "but they are as soon as they rest"
