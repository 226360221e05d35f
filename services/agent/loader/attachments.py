"""Attachments: the programs on the node's own devices, which others may use too.

A pinned TCX link holds each program in front of whatever others have there; where the kernel has
no TCX, a clsact filter with a handle of our own does. Both stay when the agent ends, and are
replaced in one step when it comes back. What is wanted no more (another uplink, another routing
mode) is detached.
"""

import errno
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cilia.datapath.errors import KernelError, NotPinned
from cilia.datapath.links import BEFORE_ALL, AttachType, Link, ensure_attached
from cilia.datapath.objects import LoadedObject
from services.agent.loader.devices import NodeDevices
from services.agent.netlink.queries import read_links
from services.agent.netlink.rtnetlink import RtNetlink
from services.agent.netlink.tc import Side, TrafficControl

log = logging.getLogger(__name__)

LINK: Final = "link_"
"""Prefix of the names of links' pins."""
NO_TCX: Final = (errno.EINVAL, errno.EOPNOTSUPP)
ON_BLOCKS: Final = ("lxc", "cilia_net")
"""Prefixes of the devices on the shared tc blocks, which have no filters of their own."""
FROM_OVERLAY, TO_OVERLAY = "from_overlay", "to_overlay"
FROM_UPLINK, TO_UPLINK = "from_uplink", "to_uplink"


@dataclass(frozen=True, slots=True)
class AttachPoint:
    """One side of one device, and the program that belongs there."""

    program: str
    side: Side
    ifindex: int

    @property
    def pin(self) -> str:
        """Name of its link's pin; by the device's index, since bpffs refuses names with dots."""
        return f"{LINK}{self.program}_{self.ifindex}"


def attach_points(devices: NodeDevices) -> list[AttachPoint]:
    """Return which programs the node's own devices get."""
    found = [
        AttachPoint(program, side, uplink)
        for uplink in devices.uplinks
        for program, side in ((FROM_UPLINK, Side.INGRESS), (TO_UPLINK, Side.EGRESS))
    ]
    if devices.vxlan:
        found.append(AttachPoint(FROM_OVERLAY, Side.INGRESS, devices.vxlan))
        found.append(AttachPoint(TO_OVERLAY, Side.EGRESS, devices.vxlan))
    return found


def attach_all(objects: LoadedObject, pins: Path, points: Sequence[AttachPoint], control: TrafficControl) -> None:
    """Have each program at its attach point exactly once, and nothing of ours elsewhere.

    Raises:
        KernelError, OSError: The kernel refuses to attach a program.
    """
    with_filters = [point for point in points if not _attach_link(objects, pins, point)]
    for point in with_filters:
        control.ensure_clsact(point.ifindex)
        control.replace_filter(point.ifindex, point.side, objects.program(point.program).fileno(), point.program)
    drop_links(pins, {point.pin for point in points})
    if with_filters:
        log.info("no TCX in this kernel; the node's devices get clsact filters")
        drop_filters(control, {(point.ifindex, point.side) for point in with_filters})


def drop_links(pins: Path, wanted: Iterable[str] = ()) -> None:
    """Detach the programs of pinned links that aren't wanted."""
    for pin in unwanted_pins((each.name for each in pins.glob(f"{LINK}*")), wanted):
        with Link.open_pinned(pins / pin) as link:
            link.detach()  # at once: the kernel lets go of an unpinned link some time later
        (pins / pin).unlink()
        log.info("program detached from its device", extra={"link": pin})


def unwanted_pins(present: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """Return the names of links' pins that nothing wants, in order."""
    return sorted({name for name in present if name.startswith(LINK)} - {*wanted})


def drop_filters(control: TrafficControl, wanted: Iterable[tuple[int, Side]] = ()) -> None:
    """Remove our clsact filters from the node's devices, but for the wanted ones."""
    with RtNetlink() as netlink:
        devices = {index: link.name for index, link in read_links(netlink).items()}
    for ifindex, side in sides_without_filter(devices, wanted):
        control.delete_filter(ifindex, side)


def sides_without_filter(devices: dict[int, str], wanted: Iterable[tuple[int, Side]]) -> list[tuple[int, Side]]:
    """Return the sides of devices that must have no clsact filter of ours; pods' devices have none.

    Args:
        devices: Index -> name, of all devices of the node.
        wanted: Sides that keep theirs.
    """
    wanted = frozenset(wanted)
    own = [ifindex for ifindex, name in devices.items() if not name.startswith(ON_BLOCKS)]
    return [(ifindex, side) for ifindex in own for side in Side if (ifindex, side) not in wanted]


def attached_program(pins: Path, point: AttachPoint) -> int:
    """Return the program that a pinned link holds at an attach point; 0: none."""
    try:
        with Link.open_pinned(pins / point.pin) as link:
            info = link.info()
    except NotPinned:
        return 0
    return info.program_id if info.ifindex == point.ifindex else 0


def _attach_link(objects: LoadedObject, pins: Path, point: AttachPoint) -> bool:
    """Attach a program by a link; tell whether the kernel knows such links."""
    hook = AttachType.TCX_INGRESS if point.side is Side.INGRESS else AttachType.TCX_EGRESS
    program = objects.program(point.program)
    try:
        ensure_attached(pins / point.pin, program, hook, point.ifindex, flags=BEFORE_ALL).close()
    except KernelError as error:
        if error.errno not in NO_TCX:
            raise
        return False
    return True
