"""``cilia policy watch``: the policies are kept the same as the files of a directory.

Fingerprints of the files are compared again and again, which works on every file system, and for
the links by which Kubernetes replaces a mounted volume. A change is applied once the files have
stayed the same for a moment, so that files saved together are one revision. Policies are recorded
with their owner and file, so a restarted watcher knows its own.
"""

import argparse
import asyncio
import getpass
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cilia.commands.arguments import (
    Nouns,
    add_allow_unenforced,
    add_namespace,
    add_output,
    add_seconds,
    command,
)
from cilia.commands.output import note, print_json
from cilia.commands.policy.files import SUFFIXES, BadInput, read_file
from cilia.commands.session import Session, with_session
from cilia.contracts.messages import Message
from cilia.contracts.policies import ApplyPolicies, ChangeAction, PoliciesChanged, PolicyFile, SyncPolicies
from cilia.errors import Refused, Unavailable

LOOK_SECONDS: Final = 0.2
RESYNC_SECONDS: Final = 60.0
"""Time after which policies of the directory that others changed are put right."""

Fingerprints = Mapping[str, tuple[int, int, int]]
"""File's name -> time of its last change in ns, size in bytes, inode."""


class Synced(Message, frozen=True):
    """Outcome of one sync of a directory."""

    changed: PoliciesChanged | None
    """Changes of policies; None: there are none, for the reason in ``broken``."""
    broken: dict[str, str]
    """File's name, or empty for all together -> the error; its policies stay as they were."""


def add_verbs(verbs: Nouns) -> None:
    """Add the verb."""
    watch = command(
        verbs,
        "watch",
        with_session(watch_directory),
        "keep the policies the same as the files of a directory",
        "  cilia policy watch /etc/cilia/policies\n  cilia policy watch policies/ --once\n",
    )
    watch.add_argument("directory", type=Path, help="its .yaml, .yml and .json files; not those below")
    watch.add_argument("--owner", default="", help="owner of the policies in their records (default: the directory)")
    add_namespace(watch)
    add_seconds(watch, "--debounce", 0.5, "apply a change once the files stay the same for (default %(default)s)")
    watch.add_argument("--adopt", action="store_true", help="take over policies of the same name that nobody owns")
    add_allow_unenforced(watch)
    watch.add_argument("--once", action="store_true", help="end after the first time; exit code 1 if a file is broken")
    add_output(watch)


async def watch_directory(arguments: argparse.Namespace, session: Session) -> int:
    """Sync until told to stop."""
    directory = arguments.directory.absolute()
    if not directory.is_dir():
        raise BadInput(str(directory), "is no directory")
    watcher = Watcher(session, directory, arguments)
    if arguments.once:
        return 1 if (await watcher.sync()).broken else 0
    loop = asyncio.get_running_loop()
    applied: Fingerprints | None = None
    synced = loop.time()
    note(f"watching {directory}; ^C ends")
    while True:
        now = read_fingerprints(directory)
        if now is not None and (now != applied or loop.time() - synced > RESYNC_SECONDS):
            applied = await wait_unchanged(directory, arguments.debounce)
            try:
                if applied is not None:
                    await watcher.sync()
            except Unavailable as error:
                note(f"{error}; again in a moment")
                applied = None
            synced = loop.time()
        await asyncio.sleep(LOOK_SECONDS)


def read_fingerprints(directory: Path) -> Fingerprints | None:
    """Return the fingerprints of a directory's files; None if it is away, which deletes nothing."""
    try:
        found = [path for path in directory.iterdir() if path.suffix in SUFFIXES and not path.name.startswith(".")]
        return {path.name: _read_fingerprint(path) for path in found}
    except FileNotFoundError:
        return None


def _read_fingerprint(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


async def wait_unchanged(directory: Path, seconds: float) -> Fingerprints | None:
    """Wait until the files have stayed the same for so long; return their fingerprints."""
    before = read_fingerprints(directory)
    while True:
        await asyncio.sleep(seconds)
        now = read_fingerprints(directory)
        if now == before:
            return now
        before = now


@dataclass
class Watcher:
    """Syncs the policies with the files of a directory, and reports the outcome."""

    session: Session
    directory: Path
    arguments: argparse.Namespace
    reported: dict[str, str] = field(default_factory=dict)
    """Errors of the last sync, which are not reported again."""

    async def sync(self) -> Synced:
        """Read the files and sync once.

        Raises:
            Unavailable: The policy service doesn't answer; nothing was changed.
        """
        files, broken = self._read()
        try:
            synced = Synced(await self._request(files, broken), broken)
        except Refused:
            broken |= await self._find_broken(files)
            try:
                whole = tuple(file for file in files if file.name not in broken)
                synced = Synced(await self._request(whole, broken), broken)
            except Refused as refused:
                synced = Synced(None, {**broken, "": str(refused)})
        self._report(synced)
        return synced

    def _read(self) -> tuple[tuple[PolicyFile, ...], dict[str, str]]:
        files, broken = [], {}
        for name in sorted(read_fingerprints(self.directory) or ()):
            try:
                files.append(PolicyFile(name, read_file(str(self.directory / name))))
            except BadInput as error:
                broken[name] = str(error)
        return tuple(files), broken

    async def _request(self, files: tuple[PolicyFile, ...], keep: Mapping[str, str]) -> PoliciesChanged:
        given = self.arguments
        request = SyncPolicies(
            given.owner or str(self.directory),
            files,
            tuple(keep),
            adopt=given.adopt,
            namespace=given.namespace,
            author=getpass.getuser(),
            allow_unenforced=given.allow_unenforced,
        )
        return await self.session.change("sync", request)

    async def _find_broken(self, files: tuple[PolicyFile, ...]) -> dict[str, str]:
        """Return the files that are refused each by itself, with the reason."""
        given, broken = self.arguments, {}
        for file in files:
            request = ApplyPolicies(
                file.text, file.name, given.namespace, dry_run=True, allow_unenforced=given.allow_unenforced
            )
            try:
                await self.session.request("policy", "apply", request, PoliciesChanged)
            except Refused as refused:
                broken[file.name] = str(refused)
        return broken

    def _report(self, synced: Synced) -> None:
        changes = (
            [each for each in synced.changed.changes if each.action is not ChangeAction.UNCHANGED]
            if synced.changed
            else []
        )
        if self.arguments.output == "json":
            if changes or synced.broken != self.reported:
                print_json(synced)
        else:
            for change in changes:
                print(f"{change.action:10}{change.key}", flush=True)
            if changes and synced.changed is not None:
                note(f"revision {synced.changed.revision}")
            for name, reason in synced.broken.items():
                if self.reported.get(name) != reason:
                    note(f"{name + ': ' if name else ''}{reason}; its policies stay as they are")
        self.reported = dict(synced.broken)
