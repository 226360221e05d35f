"""Loaded programs, and runs of them on a packet given by the caller."""

import struct
from pathlib import Path
from typing import NamedTuple, Self

from cilia.datapath.descriptor import Descriptor, checked, ffi, get_pinned, lib

GROWTH_BYTES = 256
"""Bytes by which a packet may grow in a program: room for encapsulation."""

CONTEXT_BYTES = 256
"""Room for the context that a run gives back: struct __sk_buff has 192 bytes in Linux 6.18."""


class RunResult(NamedTuple):
    """Outcome of test runs of a program on a packet."""

    retval: int
    packet: bytes
    duration_ns: int
    """Mean duration of the runs."""
    context: bytes
    """The context as the program left it; empty unless one was given."""


class ProgramInfo(NamedTuple):
    """Properties of a program in the kernel."""

    id: int
    """Number of the program, as in ``bpftool prog``."""
    instructions: int
    """Instructions, with those of subprograms, as the verifier has rewritten them."""
    verified_instructions: int
    """Instructions that the verifier looked at, on all paths together; it gives up at a million.

    0 before Linux 5.16.
    """
    jited_bytes: int
    """Bytes of machine code; 0 if there is none."""


def skb_context(
    *, ifindex: int = 0, ingress_ifindex: int = 0, mark: int = 0, cb: tuple[int, ...] = (), gso_size: int = 0
) -> bytes:
    """Give the fields of ``struct __sk_buff`` that a test run of a TC program may set.

    Args:
        ifindex: A device of the caller's network namespace, or 0.
        cb: Up to five words of the control block.
        gso_size: Payload bytes of each segment that the packet is to become; 0: it stays one.
    """
    words = (*cb, 0, 0, 0, 0, 0)[:5]
    return struct.pack("=8xI24xII4x5I108xI", mark, ingress_ifindex, ifindex, *words, gso_size)


class Program(Descriptor):
    """A program in the kernel."""

    def __init__(self, fd: int, name: str) -> None:
        super().__init__(fd)
        self.name = name

    @classmethod
    def open_pinned(cls, path: Path) -> Self:
        """Open the program pinned at ``path``; raises NotPinned."""
        return cls(get_pinned(path), path.name)

    @classmethod
    def open_by_id(cls, number: int, name: str) -> Self:
        """Open a program that somebody loaded by its :attr:`id`; raises KernelError (ENOENT)."""
        return cls(checked(lib.bpf_prog_get_fd_by_id(number), f"open program {name} by its number {number}"), name)

    @property
    def id(self) -> int:
        """The kernel's number for it, as in ``bpftool prog``."""
        return self.info().id

    def info(self) -> ProgramInfo:
        """Ask the kernel for the program; raises KernelError."""
        info = ffi.new("struct cilia_program_info *")
        checked(lib.cilia_program_info(self.fileno(), info), f"ask for program {self.name}")
        return ProgramInfo(info.id, info.instructions, info.verified_instructions, info.jited_bytes)

    def test_run(self, packet: bytes, context: bytes = b"", repeat: int = 1) -> RunResult:
        """Run on ``packet``, which begins with the Ethernet header, without sending anything
        (BPF_PROG_TEST_RUN).

        Args:
            context: Leading part of ``struct __sk_buff`` (see skb_context) or ``struct xdp_md``.
            repeat: Runs on the same buffer; the packet that a run leaves is the input of the next.

        Raises:
            KernelError: EINVAL if the packet is shorter than an Ethernet header or the context
                holds other fields.
        """
        source = ffi.from_buffer(packet)
        room = bytearray(len(packet) + GROWTH_BYTES)
        context_in = ffi.from_buffer(context)
        context_out = bytearray(CONTEXT_BYTES if context else 0)
        held = ffi.from_buffer(room), ffi.from_buffer(context_out)
        run = ffi.new(
            "struct cilia_test_run *",
            {
                "packet": source,
                "packet_size": len(packet),
                "packet_out": held[0],
                "packet_out_size": len(room),
                "context": context_in if context else ffi.NULL,
                "context_size": len(context),
                "context_out": held[1] if context else ffi.NULL,
                "context_out_size": len(context_out),
                "repeat": repeat,
            },
        )
        checked(lib.cilia_test_run(self.fileno(), run), f"run program {self.name}")
        return RunResult(
            run.retval,
            bytes(room[: run.packet_out_size]),
            run.duration_ns,
            bytes(context_out[: run.context_out_size]),
        )
