"""Programs on devices of the node: the overlay's, and those of the underlay, which others may use
too.

A pinned TCX link holds each, before whatever others have there; where the kernel has no TCX, a
clsact filter with a handle of our own does. Both stay when the agent ends, and are replaced in one
step when it comes back. A place that is wanted no more (another uplink, another routing mode) is
left.
"""

import errno
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pyroute2.iproute.linux import IPRoute

from cilia.datapath.errors import KernelError
from cilia.datapath.links import BEFORE_ALL, Hook, Link, ensure_attached
from cilia.datapath.objects import LoadedObject
from services.agent.netlink.tc import Side, TrafficControl

log = logging.getLogger(__name__)

LINK: Final = "link_"
"""Pins of links begin so."""
NO_TCX: Final = (errno.EINVAL, errno.EOPNOTSUPP)
OURS: Final = ("lxc", "cilia_net")
"""Devices on the shared blocks begin so; nothing else of ours hangs there."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a program belongs: one side of one device."""

    program: str
    side: Side
    ifindex: int

    @property
    def pin(self) -> str:
        """Name of its link's pin; by the device's index, since bpffs refuses names with dots."""
        return f"{LINK}{self.program}_{self.ifindex}"


def attach_all(objects: LoadedObject, pins: Path, places: Sequence[Place], control: TrafficControl) -> None:
    """Have each program in its place exactly once, and nothing of ours elsewhere.

    Raises:
        KernelError, OSError: The kernel refuses a program its place.
    """
    with_filters = [place for place in places if not _attach_link(objects, pins, place)]
    for place in with_filters:
        control.ensure_clsact(place.ifindex)
        control.replace_filter(place.ifindex, place.side, objects.program(place.program).fileno(), place.program)
    drop_links(pins, {place.pin for place in places})
    if with_filters:
        log.info("no TCX in this kernel; the node's devices get clsact filters")
        drop_filters(control, {(place.ifindex, place.side) for place in with_filters})


def drop_links(pins: Path, wanted: Iterable[str] = ()) -> None:
    """Take programs off the devices whose pinned link isn't wanted."""
    for pin in pins.glob(f"{LINK}*"):
        if pin.name not in wanted:
            with Link.open_pinned(pin) as link:
                link.detach()  # at once: the kernel lets go of an unpinned link some time later
            pin.unlink()
            log.info("program taken off its device", extra={"link": pin.name})


def drop_filters(control: TrafficControl, wanted: Iterable[tuple[int, Side]] = ()) -> None:
    """Take our clsact filters off the node's devices but for the wanted ones; others' filters stay."""
    with IPRoute() as netlink:
        devices = [int(link["index"]) for link in netlink.get_links() if not str(link.get("ifname")).startswith(OURS)]
    for ifindex in devices:
        for side in Side:
            if (ifindex, side) not in wanted:
                control.delete_filter(ifindex, side)


def _attach_link(objects: LoadedObject, pins: Path, place: Place) -> bool:
    """Put a program in its place by a link; tell whether the kernel knows such links."""
    hook = Hook.TCX_INGRESS if place.side is Side.INGRESS else Hook.TCX_EGRESS
    try:
        ensure_attached(pins / place.pin, objects.program(place.program), hook, place.ifindex, flags=BEFORE_ALL).close()
    except KernelError as error:
        if error.errno not in NO_TCX:
            raise
        return False
    return True
