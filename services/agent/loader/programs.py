"""Programs in force: installed at start, and repaired where somebody else changed them.

A link without its tc blocks is a pod without policy, and a filter of somebody else in front of
ours may let through what ours would drop. What is missing is put back; what stands in our blocks
beside our filter is removed. Everything here blocks on RTNL, and on RCU when a link is new: for the
worker thread of links.
"""

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from cilia.datapath.objects import LoadedObject
from services.agent.config import Config
from services.agent.loader.attachments import AttachPoint, attach_all, attach_points, attached_program
from services.agent.loader.datapath import install_datapath, load_datapath
from services.agent.loader.devices import NodeDevices
from services.agent.netlink.tc import HANDLE, Filter, TcBlocks, TrafficControl

FROM_POD: Final = "from_pod"
TO_POD: Final = "to_pod"


class Programs:
    """The programs of this node and where each is attached."""

    def __init__(self, config: Config, devices: NodeDevices, blocks: TcBlocks) -> None:
        self._config = config
        self._devices = devices
        self._blocks = blocks
        self._pins = Path(config.pin_directory)
        self._points = attach_points(devices)
        self._ids: dict[str, int] = {}
        """Program -> its id in the kernel."""

    def install(self) -> LoadedObject:
        """Load the programs over the pinned maps and attach them, in place of former ones.

        Raises:
            DatapathError, OSError: The kernel refuses, or a pinned map can't be migrated.
        """
        return install_datapath(self._config, self._devices, self._attach)

    def repair(self, pods: Mapping[int, str]) -> list[str]:
        """Look at every attach point and repair; returns in words what was wrong.

        Args:
            pods: Devices of pods: index -> name.

        Raises:
            DatapathError, OSError: A repair failed.
        """
        with TrafficControl() as control:
            unbound = list(self._bind(control, pods))
            foreign = list(self._remove_foreign_filters(control))
            filters = {program: control.block_filters(block) for block, program in self._block_programs()}
        missing = [*self._missing_filters(filters), *self._missing_links()]
        if missing:
            with load_datapath(self._config, self._devices) as objects:
                self._attach(objects)
        return [*unbound, *foreign, *missing]

    def _attach(self, objects: LoadedObject) -> None:
        """Attach all programs in place of former ones; they stay there without us."""
        with TrafficControl() as control:
            for block, program in self._block_programs():
                control.replace_block_filter(block, objects.program(program).fileno(), program)
            attach_all(objects, self._pins, self._points, control)
        names = {FROM_POD, TO_POD, *(point.program for point in self._points)}
        self._ids = {name: objects.program(name).id for name in names}

    def _block_programs(self) -> tuple[tuple[int, str], ...]:
        return (self._blocks.ingress, FROM_POD), (self._blocks.egress, TO_POD)

    def _bind(self, control: TrafficControl, pods: Mapping[int, str]) -> Iterator[str]:
        """Bind pods' devices to the shared blocks again; those that are gone are no fault."""
        bound = control.bound_blocks()
        for ifindex in unbound_devices(pods, bound, self._blocks):
            try:
                if ifindex in bound:
                    control.delete_clsact(ifindex)
                control.bind_to_blocks(ifindex, self._blocks)
            except OSError as error:
                if error.errno != errno.ENODEV:
                    raise
                continue
            wanted = self._blocks.ingress, self._blocks.egress
            yield f"{pods[ifindex]} was bound to the tc blocks {bound.get(ifindex, 'none')}, not {wanted}"

    def _remove_foreign_filters(self, control: TrafficControl) -> Iterator[str]:
        for block, _ in self._block_programs():
            for each in foreign_filters(control.block_filters(block)):
                control.delete_block_filter(block, each)
                yield f"tc block {block} had {each}, which is not ours"

    def _missing_filters(self, filters: Mapping[str, Sequence[Filter]]) -> Iterator[str]:
        for block, program in self._block_programs():
            found, wanted = [each.program_id for each in filters[program]], [self._ids[program]]
            if found != wanted:
                yield f"tc block {block} had the programs {found}, not {wanted} ({program})"

    def _missing_links(self) -> Iterator[str]:
        """Describe links that are gone; without TCX there are no pins of links, and no faults."""
        if any((self._pins / point.pin).exists() for point in self._points):
            found = {point: attached_program(self._pins, point) for point in self._points}
            yield from missing_links(found, self._ids)


def unbound_devices(pods: Iterable[int], bound: Mapping[int, tuple[int, int]], blocks: TcBlocks) -> list[int]:
    """Return the pods' devices whose clsact qdisc is missing, or not on the shared blocks."""
    return [ifindex for ifindex in pods if bound.get(ifindex) != (blocks.ingress, blocks.egress)]


def foreign_filters(filters: Iterable[Filter]) -> list[Filter]:
    """Return the filters of one of our blocks that somebody else has put there."""
    return [each for each in filters if each.handle != HANDLE or not each.is_ours]


def missing_links(found: Mapping[AttachPoint, int], wanted: Mapping[str, int]) -> Iterator[str]:
    """Describe the attach points whose program isn't the wanted one.

    Args:
        found: Attach point -> id of the program there; 0: none.
        wanted: Program -> its id.
    """
    for point, program in found.items():
        if program != wanted[point.program]:
            name, expected = point.program, wanted[point.program]
            yield f"{name} at device {point.ifindex} was program {program}, not {expected}"
