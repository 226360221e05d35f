"""A watched directory: its files are the policies, whatever happens to files, watcher and the
policies of others.
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from cilia.contracts.history import HistoryQuery, PolicyHistory
from cilia.contracts.keys import Keys
from cilia.contracts.policies import ApplyPolicies, PoliciesChanged, PolicyFile, SyncPolicies
from cilia.contracts.tables import PolicyObject
from cilia.errors import Refused
from laboratory.services import Stage
from tests.services.ask import ask
from tests.services.test_policy_explain import policy_service

POLICY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: %s, namespace: shop}
spec: {endpointSelector: {matchLabels: {app: %s}}, ingress: [{}]}
"""
BROKEN = POLICY.replace("ingress", "ingres")


def key(name: str) -> str:
    return f"CiliumNetworkPolicy/shop/{name}"


async def held(stage: Stage) -> dict[str, PolicyObject]:
    """Return the policies in etcd by name."""
    records, _ = await stage.kvstore.range(Keys(stage.cluster).policies)
    rows = [msgspec.json.decode(record.value, type=PolicyObject) for record in records]
    return {row.name: row for row in rows}


async def until(stage: Stage, wanted: set[str]) -> None:
    async with asyncio.timeout(60):
        while set(await held(stage)) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def sync(stage: Stage, **fields: object) -> PoliciesChanged:
    return await ask(stage.bus, "policy", "sync", SyncPolicies("me", **fields), PoliciesChanged)  # type: ignore[arg-type]


def watch(stage: Stage, directory: Path, *arguments: str) -> "subprocess.Popen[str]":
    words = ("--nats", stage.nats.url, "--cluster", stage.cluster, "policy", "watch", str(directory), *arguments)
    command = [sys.executable, "-m", "cilia.commands.cli", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@asynccontextmanager
async def watching(stage: Stage, directory: Path) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """Watch for the block; yields what waits until the watcher has said something."""
    process = watch(stage, directory, "--debounce", "0.2")
    assert process.stderr is not None
    errors = process.stderr

    async def says(text: str) -> None:
        async with asyncio.timeout(60):
            while text not in await asyncio.to_thread(errors.readline):
                pass

    try:
        yield says
    finally:
        process.terminate()
        await asyncio.to_thread(process.communicate)


async def test_files_saved_together_are_one_revision_and_a_deleted_one_takes_its_policies_along(
    stage: Stage, tmp_path: Path
) -> None:
    directory = tmp_path / "policies"
    directory.mkdir()
    (directory / "web.yaml").write_text(POLICY % ("web", "web"))
    (directory / "notes.txt").write_text("no policy")
    async with policy_service(stage):
        await ask(stage.bus, "policy", "apply", ApplyPolicies(POLICY % ("other", "other")), PoliciesChanged)
        async with watching(stage, directory):
            await until(stage, {"web", "other"})
            for name in ("db", "cart"):
                (directory / f"{name}.yaml").write_text(POLICY % (name, name))
                await asyncio.sleep(0.05)
            (directory / "web.yaml").unlink()
            await until(stage, {"db", "cart", "other"})
        history = await ask(stage.bus, "policy", "history", HistoryQuery(), PolicyHistory)
        assert {step.key for step in history.rows[0].change.steps} == {key("db"), key("cart"), key("web")}
        assert history.rows[0].change.cause == f"sync of {directory}"


async def test_a_broken_file_is_told_and_its_policies_stay_also_over_a_restart(stage: Stage, tmp_path: Path) -> None:
    directory = tmp_path / "policies"
    directory.mkdir()
    for name in ("web", "db"):
        (directory / f"{name}.yaml").write_text(POLICY % (name, name))
    async with policy_service(stage):
        async with watching(stage, directory) as says:
            await until(stage, {"web", "db"})
            before = await held(stage)
            (directory / "web.yaml").write_text(BROKEN % ("web", "changed"))
            (directory / "cart.yaml").write_text(POLICY % ("cart", "cart"))
            await says("spec.ingres: [{}]: unknown field")
            await until(stage, {"web", "db", "cart"})
            assert (await held(stage))["web"] == before["web"]
        (directory / "db.yaml").unlink()
        async with watching(stage, directory) as says:
            await says("web.yaml")
            await until(stage, {"web", "cart"})
            assert (await held(stage))["web"] == before["web"]
            (directory / "web.yaml").write_text(POLICY % ("web", "mended"))
            (directory / "cart.yaml").unlink()
            await until(stage, {"web"})
        assert "mended" in (await held(stage))["web"].document


async def test_a_directory_that_is_gone_deletes_nothing(stage: Stage, tmp_path: Path) -> None:
    directory = tmp_path / "policies"
    directory.mkdir()
    (directory / "web.yaml").write_text(POLICY % ("web", "web"))
    async with policy_service(stage), watching(stage, directory):
        await until(stage, {"web"})
        directory.rename(tmp_path / "elsewhere")
        await asyncio.sleep(1.5)
        assert set(await held(stage)) == {"web"}


async def test_once_is_for_ci(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(POLICY % ("web", "web"))
    (tmp_path / "db.json").write_text("{")
    async with policy_service(stage):
        process = watch(stage, tmp_path, "--once")
        output, errors = await asyncio.to_thread(process.communicate)
        assert (process.returncode, output) == (1, f"created   {key('web')}\n")
        assert "db.json" in errors
        assert set(await held(stage)) == {"web"}


async def test_what_others_applied_is_a_conflict_or_adopted_and_never_deleted(stage: Stage) -> None:
    async with policy_service(stage):
        await ask(
            stage.bus, "policy", "apply", ApplyPolicies(POLICY % ("web", "theirs"), author="eve"), PoliciesChanged
        )
        mine = (PolicyFile("web.yaml", POLICY % ("web", "mine")), PolicyFile("db.yaml", POLICY % ("db", "db")))
        with pytest.raises(Refused, match=f"{key('web')} is a policy that eve applied"):
            await sync(stage, files=mine)
        assert set(await held(stage)) == {"web"}, "all or nothing"
        await sync(stage, files=mine, adopt=True)
        assert (await held(stage))["web"].owner == "me"
        with pytest.raises(Refused, match="a policy that me keeps"):
            await ask(stage.bus, "policy", "sync", SyncPolicies("you", mine, adopt=True), PoliciesChanged)
        await ask(stage.bus, "policy", "sync", SyncPolicies("you", ()), PoliciesChanged)
        assert set(await held(stage)) == {"web", "db"}
        await ask(stage.bus, "policy", "apply", ApplyPolicies(POLICY % ("db", "by-hand")), PoliciesChanged)
        assert (await held(stage))["db"].owner == "me", "its owner puts it right again"
        changed = await sync(stage, files=mine)
        assert {change.key for change in changed.changes if change.action == "changed"} == {key("db")}
        await sync(stage, files=())
        assert await held(stage) == {}


async def test_a_policy_in_two_files_is_refused_by_their_names(stage: Stage) -> None:
    async with policy_service(stage):
        text = POLICY % ("web", "web")
        with pytest.raises(Refused, match=r"b.yaml: .* is in a.yaml, too"):
            await sync(stage, files=(PolicyFile("a.yaml", text), PolicyFile("b.yaml", text)))
