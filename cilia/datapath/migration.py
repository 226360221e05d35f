"""Migration of pinned maps to another layout or size, under traffic, and without a moment that lets
a packet through.

::

    pins/NAME             the maps in force
    pins/next/NAME        maps being filled; no attached program uses them
                          found at a start: deleted
    pins/switching/NAME   filled; programs are being attached that use them
                          found at a start: completed, and made the maps in force

    load        makes what differs anew, below next
    copy        while the old programs go on writing to the old maps
    commit      renames next to switching: from here on a start goes forward
    (attach)    the caller replaces the programs; flows are known to the new ones already
    finish      brings in what the old programs wrote since, moves the pins over the old ones
"""

import logging
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from cilia.datapath.descriptor import get_pinned
from cilia.datapath.errors import CannotMigrate
from cilia.datapath.map_types import types_of_map
from cilia.datapath.objects import NEXT, LoadedObject
from cilia.datapath.raw_map import RawMap
from cilia.datapath.transfer import Transfer

log = logging.getLogger(__name__)

SWITCHING: Final = "switching"
OURS: Final = "cilia_"
"""Prefix of the names of maps; links are pinned beside them."""


def recover(pins: Path) -> None:
    """Undo, or complete, a migration in which a former process died, before anything is loaded."""
    shutil.rmtree(pins / NEXT, ignore_errors=True)
    switching = pins / SWITCHING
    if not switching.is_dir():
        return
    for made in sorted(switching.iterdir()):
        missing = 0
        if (pins / made.name).exists():
            with ExitStack() as stack:
                missing = _transfer(pins / made.name, made, stack).insert_missing()
        made.rename(pins / made.name)
        log.warning("map %s: its migration was cut short and is complete now; %d entries copied", made.name, missing)
    switching.rmdir()


class Migration:
    """Migration of the maps that ``objects`` made anew, if it did not find all as it wants them."""

    def __init__(self, objects: LoadedObject, pins: Path) -> None:
        self._objects = objects
        self._pins = pins
        self._stack = ExitStack()
        self._transfers: list[Transfer] = []

    def copy(self) -> None:
        """Fill the new maps; on a failure, they are dropped and the old ones stay in force.

        Raises:
            CannotMigrate, MapFull: An entry doesn't fit into a new map.
        """
        try:
            for name in self._objects.remade:
                transfer = _transfer(self._pins / name, self._pins / NEXT / name, self._stack)
                copied = transfer.copy()
                self._transfers.append(transfer)
                log.info("map %s has another layout or size: %d entries copied", name, copied)
            for transfer in self._transfers:
                transfer.catch_up()
        except Exception:
            self.close()
            shutil.rmtree(self._pins / NEXT, ignore_errors=True)
            raise

    def commit(self) -> None:
        """Have a start from now on go forward; to be called right before programs are attached."""
        if self._transfers:
            (self._pins / NEXT).rename(self._pins / SWITCHING)

    def finish(self) -> None:
        """Copy what was written meanwhile, move the pins, and drop maps that the object lacks."""
        for transfer in self._transfers:
            transfer.catch_up()
        for name in self._objects.remade:
            (self._pins / SWITCHING / name).rename(self._pins / name)
        if self._transfers:
            (self._pins / SWITCHING).rmdir()
        for pin in self._pins.glob(f"{OURS}*"):
            if pin.name not in self._objects.maps:
                pin.unlink()
        self.close()

    def close(self) -> None:
        """Give the maps back."""
        self._transfers.clear()
        self._stack.close()


def _transfer(old: Path, new: Path, stack: ExitStack) -> Transfer:
    maps = [stack.enter_context(RawMap(get_pinned(path), old.name)) for path in (old, new)]
    types = [types_of_map(one.fileno()) for one in maps]
    if types[0] is None or types[1] is None:
        raise CannotMigrate(old.name, "it was made without BTF, so its fields are unknown")
    return Transfer(maps[0], maps[1], types[0], types[1])
