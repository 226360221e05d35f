"""Audit of the programs: whether each is still in its place, and no pod's link is without.

A link without its tc blocks is a pod without policy, and a filter of somebody else before ours may
let through what ours would drop. What is missing is put back, what stands in our blocks beside our
filter is removed. For the worker thread of links: everything here blocks on RTNL.
"""

import errno
from collections.abc import Iterator, Mapping
from pathlib import Path

from cilia.datapath.errors import NotPinned
from cilia.datapath.links import Link
from cilia.datapath.objects import LoadedObject
from services.agent.config import Config
from services.agent.endpoint.veth import TcBlocks
from services.agent.loader.attachments import Place
from services.agent.loader.loading import FROM_POD, TO_POD, attach, install, load_datapath, places
from services.agent.netlink.tc import HANDLE, TrafficControl
from services.agent.node.devices import NodeDevices


class Placement:
    """Which programs are in which places."""

    def __init__(self, config: Config, devices: NodeDevices, blocks: TcBlocks) -> None:
        self._config = config
        self._devices = devices
        self._blocks = blocks
        self._ids: dict[str, int] = {}

    def install(self) -> LoadedObject:
        """Load the programs over the pinned maps and put them in their places, in place of former
        ones.

        Raises:
            DatapathError, OSError: The kernel refuses, or a pinned map can't be migrated.
        """
        objects = install(self._config, self._devices, self._blocks)
        self._note(objects)
        return objects

    def _note(self, objects: LoadedObject) -> None:
        names = {FROM_POD, TO_POD, *(place.program for place in places(self._devices))}
        self._ids = {name: objects.program(name).id for name in names}

    def _renew(self) -> None:
        with load_datapath(self._config, self._devices) as objects:
            attach(objects, self._config, self._devices, self._blocks)
            self._note(objects)

    def repair(self, pods: Mapping[int, str]) -> list[str]:
        """Look at every place and repair; returns in words what was wrong.

        Args:
            pods: Devices of pods: index -> name.

        Raises:
            DatapathError, OSError: A repair failed.
        """
        with TrafficControl() as control:
            unbound = list(self._bind(control, pods))
            strangers = list(self._remove_strangers(control))
            missing = [*self._missing_filters(control), *self._missing_links()]
        if missing:
            self._renew()
        return [*unbound, *strangers, *missing]

    def _bind(self, control: TrafficControl, pods: Mapping[int, str]) -> Iterator[str]:
        """Bind pods' devices to the shared blocks again; those that are gone are left to the
        endpoints' loop.
        """
        wanted = self._blocks.ingress, self._blocks.egress
        bound = control.bound_blocks()
        for ifindex, name in pods.items():
            if bound.get(ifindex) == wanted:
                continue
            try:
                if ifindex in bound:
                    control.delete_clsact(ifindex)
                control.bind_to_blocks(ifindex, ingress=wanted[0], egress=wanted[1])
            except OSError as error:
                if error.errno != errno.ENODEV:
                    raise
                continue
            yield f"{name} was bound to the tc blocks {bound.get(ifindex, 'none')}, not {wanted}"

    def _remove_strangers(self, control: TrafficControl) -> Iterator[str]:
        for block in (self._blocks.ingress, self._blocks.egress):
            for each in control.block_filters(block):
                if each.handle != HANDLE or not each.is_ours:
                    control.delete_block_filter(block, each)
                    yield f"tc block {block} had {each}, which is not ours"

    def _missing_filters(self, control: TrafficControl) -> Iterator[str]:
        for block, program in ((self._blocks.ingress, FROM_POD), (self._blocks.egress, TO_POD)):
            found = [each.program_id for each in control.block_filters(block)]
            if found != [self._ids[program]]:
                yield f"tc block {block} had the programs {found}, not {[self._ids[program]]} ({program})"

    def _missing_links(self) -> Iterator[str]:
        """Where the kernel knows no TCX there are no pins of links, and nothing is said."""
        pins = Path(self._config.pin_directory)
        wanted = places(self._devices)
        if not any((pins / place.pin).exists() for place in wanted):
            return
        for place in wanted:
            found = _program_at(pins / place.pin, place)
            if found != self._ids[place.program]:
                yield f"{place.program} at device {place.ifindex} was program {found}, not {self._ids[place.program]}"


def _program_at(pin: Path, place: Place) -> int:
    """Return the program that a pinned link holds at a place; 0: none."""
    try:
        with Link.open_pinned(pin) as link:
            info = link.info()
    except NotPinned:
        return 0
    return info.program_id if info.ifindex == place.ifindex else 0
