"""``cilia policy watch``: a directory's files are the policies, now and after each change.

The files' stamps are compared again and again, which works on every file system, and for the links
by which Kubernetes replaces a mounted volume. A change is taken once nothing changed for a moment,
so that files saved together are one revision. What was applied is recorded with its owner and file,
so a restarted watcher knows what is its own.
"""

import argparse
import asyncio
import getpass
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cilia.commands.arguments import Nouns, add_output, command, parse_seconds
from cilia.commands.output import note, print_json
from cilia.commands.policy.files import SUFFIXES, BadInput, read_file
from cilia.commands.session import Session, with_session
from cilia.contracts.messages import Message
from cilia.contracts.policies import ApplyPolicies, ChangeAction, PoliciesChanged, PolicyFile, SyncPolicies
from cilia.errors import Refused, Unavailable

LOOK_SECONDS: Final = 0.2
RESYNC_SECONDS: Final = 60.0
"""What others changed of the directory's policies is put right after so long."""

Stamps = Mapping[str, tuple[int, int, int]]
"""File's name -> time of its last change in ns, size in bytes, inode."""


class Synced(Message, frozen=True):
    """What became of a directory."""

    changed: PoliciesChanged | None
    """None: nothing, for the reason in ``broken``."""
    broken: dict[str, str]
    """File's name, or empty for all together -> what is wrong; its policies stay as they were."""


def add_verbs(verbs: Nouns) -> None:
    """Add the verb."""
    watch = command(
        verbs,
        "watch",
        with_session(watch_directory),
        "keep the policies what the files of a directory say",
        "  cilia policy watch /etc/cilia/policies\n  cilia policy watch policies/ --once\n",
    )
    watch.add_argument("directory", type=Path, help="its .yaml, .yml and .json files; not those below")
    watch.add_argument("--owner", default="", help="under which the policies are recorded (default: the directory)")
    watch.add_argument("-n", "--namespace", default="default", help="of policies that name none (default %(default)s)")
    watch.add_argument(
        "--debounce",
        type=parse_seconds,
        default=0.5,
        metavar="SECONDS",
        help="a change waits for (default %(default)s)",
    )
    watch.add_argument("--adopt", action="store_true", help="take over policies of the same name that nobody owns")
    watch.add_argument("--allow-unenforced", action="store_true", help="store what can't be enforced yet, too")
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
    last: Stamps | None = None
    synced = loop.time()
    note(f"watching {directory}; ^C ends")
    while True:
        stamps = stamp(directory)
        if stamps is not None and (stamps != last or loop.time() - synced > RESYNC_SECONDS):
            last = await settle(directory, arguments.debounce)
            try:
                if last is not None:
                    await watcher.sync()
            except Unavailable as error:
                note(f"{error}; again in a moment")
                last = None
            synced = loop.time()
        await asyncio.sleep(LOOK_SECONDS)


def stamp(directory: Path) -> Stamps | None:
    """Return the stamps of a directory's files; None if it isn't there, which deletes nothing."""
    try:
        found = [path for path in directory.iterdir() if path.suffix in SUFFIXES and not path.name.startswith(".")]
        return {path.name: _stamp(path) for path in found}
    except FileNotFoundError:
        return None


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


async def settle(directory: Path, seconds: float) -> Stamps | None:
    """Wait until nothing has changed for so long; return the stamps."""
    stamps = stamp(directory)
    while True:
        await asyncio.sleep(seconds)
        later = stamp(directory)
        if later == stamps:
            return later
        stamps = later


@dataclass
class Watcher:
    """Makes the policies what the files say, and tells what came of it."""

    session: Session
    directory: Path
    arguments: argparse.Namespace
    told: dict[str, str] = field(default_factory=dict)
    """What was said to be broken."""

    async def sync(self) -> Synced:
        """Read the files and sync once.

        Raises:
            Unavailable: Nobody answers; nothing was changed.
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
        self._tell(synced)
        return synced

    def _read(self) -> tuple[tuple[PolicyFile, ...], dict[str, str]]:
        files, broken = [], {}
        for name in sorted(stamp(self.directory) or ()):
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
        """Return the files that are refused by themselves, and why."""
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

    def _tell(self, synced: Synced) -> None:
        changes = (
            [each for each in synced.changed.changes if each.action is not ChangeAction.UNCHANGED]
            if synced.changed
            else []
        )
        if self.arguments.output == "json":
            if changes or synced.broken != self.told:
                print_json(synced)
        else:
            for change in changes:
                print(f"{change.action:10}{change.key}", flush=True)
            if changes and synced.changed is not None:
                note(f"revision {synced.changed.revision}")
            for name, reason in synced.broken.items():
                if self.told.get(name) != reason:
                    note(f"{name + ': ' if name else ''}{reason}; its policies stay as they are")
        self.told = dict(synced.broken)
