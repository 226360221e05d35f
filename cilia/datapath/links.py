"""Attachments of programs as BPF links: replaced in one step, kept by a pin, never doubled.

A link holds its program in place for as long as a descriptor or a pin refers to it. Creating or
dropping one waits for an RCU grace period (10-15 ms); replacing its program takes microseconds and
loses no packet.
"""

from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple, Self

from cilia.datapath.descriptor import Descriptor, checked, ffi, get_pinned, lib
from cilia.datapath.errors import NotPinned
from cilia.datapath.programs import Program

BEFORE_ALL: Final = 1 << 3
"""BPF_F_BEFORE without a reference, for TCX: in front of what others have at the hook."""


class AttachType(IntEnum):
    """Hook at which a program can be attached by a link; values of ``enum bpf_attach_type``."""

    CGROUP_INET4_CONNECT = 10
    CGROUP_INET6_CONNECT = 11
    CGROUP_UDP4_SENDMSG = 14
    CGROUP_UDP6_SENDMSG = 15
    CGROUP_UDP4_RECVMSG = 19
    CGROUP_UDP6_RECVMSG = 20
    CGROUP_INET4_GETPEERNAME = 29
    CGROUP_INET6_GETPEERNAME = 30
    XDP = 37
    TCX_INGRESS = 46
    TCX_EGRESS = 47


class LinkInfo(NamedTuple):
    """Properties of a link in the kernel."""

    id: int
    program_id: int
    ifindex: int
    """Interface index of its device; 0 if it sits on none, or the device is gone."""


class Link(Descriptor):
    """A program attached to a hook."""

    @classmethod
    def attach(cls, program: Program, hook: AttachType, target: int, flags: int = 0) -> Self:
        """Put ``program`` at ``hook``. Blocks on RTNL and RCU.

        Args:
            target: Index of the device, or descriptor of the cgroup's directory.
            flags: Of the hook, such as XDP_FLAGS_SKB_MODE.

        Raises:
            KernelError: ENODEV, EEXIST (the program is there already), EINVAL (no such hook in this
                kernel).
        """
        fd = lib.cilia_link_create(program.fileno(), target, int(hook), flags)
        return cls(checked(fd, f"attach {program.name} at {hook.name} of {target}"))

    @classmethod
    def open_pinned(cls, path: Path) -> Self:
        """Open the link pinned at ``path``; raises NotPinned."""
        return cls(get_pinned(path))

    def update(self, program: Program) -> None:
        """Replace the present program by ``program``: each packet meets one of the two."""
        result = lib.bpf_link_update(self.fileno(), program.fileno(), ffi.NULL)
        checked(result, f"replace the program of a link by {program.name}")

    def detach(self) -> None:
        """Take the program out at once; the link stays, empty, until its last holder goes.

        Waits for RCU.
        """
        checked(lib.bpf_link_detach(self.fileno()), "detach a link")

    def info(self) -> LinkInfo:
        info = ffi.new("struct cilia_link_info *")
        checked(lib.cilia_link_info(self.fileno(), info), "ask for a link")
        return LinkInfo(info.id, info.program_id, info.ifindex)


def ensure_attached(pin: Path, program: Program, hook: AttachType, ifindex: int, flags: int = 0) -> Link:
    """Have ``program`` at ``hook`` of a device exactly once, by the link pinned at ``pin``.

    A link left by an earlier process is adopted and its program replaced; one whose device is gone,
    or that sits on another device since, is dropped and made anew, with ``flags``.

    Raises:
        KernelError: The device is gone, or something else holds the hook.
    """
    try:
        link = Link.open_pinned(pin)
    except NotPinned:
        pass
    else:
        if link.info().ifindex == ifindex:
            link.update(program)
            return link
        link.close()
        pin.unlink()
    link = Link.attach(program, hook, ifindex, flags)
    link.pin(pin)
    return link
