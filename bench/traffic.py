"""Traffic between network namespaces, made and measured by bench/native/traffic.c: nothing of it
waits for Python.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
from msgspec import Struct

from tools.build import CC_FLAGS

SOURCE: Final = Path(__file__).parent / "native" / "traffic.c"
PORT: Final = 20000
"""Port of servers; ``flows`` takes the 99 behind it, too."""
FLOW_PORTS: Final = 100
CPU: Final = 0
"""Processor of both ends, and of all between them."""
HIGHEST: Final = -20
UNDISTURBED: Final = 0.97
"""Share of the CPU that traffic must have had; a run that had less is repeated."""
TRIES: Final = 3


class Sample(Struct, frozen=True):
    """Sample of one run."""

    count: int
    """Transactions; of a stream, bytes that arrived."""
    seconds: float
    cpu_seconds: float
    """Time of client, server and ksoftirqd; others took the rest of ``seconds``."""
    p50_ns: int
    """Latency of a transaction; 0 for a stream."""
    p99_ns: int

    @property
    def per_second(self) -> float:
        """Transactions, or bytes, in a second of the CPU's time: what others take of it is left
        out.
        """
        return self.count / self.cpu_seconds


@dataclass(frozen=True, slots=True)
class Way:
    """Path of traffic: network namespaces of client and server, and the server's IPv4 address."""

    client: Path
    server: Path
    address: str
    port: int = PORT


@dataclass(frozen=True, slots=True)
class Generator:
    """The compiled program."""

    program: Path
    softirqs: int
    """Process number of the kernel thread that handles the interrupts of CPU which pile up."""

    def run(
        self,
        mode: str,
        way: Way,
        seconds: float,
        *,
        flows: int = FLOW_PORTS,
        at_start: Callable[[], None] = lambda: None,
        shares_cpu: bool = False,
    ) -> Sample:
        """Run traffic one way.

        Args:
            mode: ``rr``, ``crr``, ``stream`` or ``flows``; see the program.
            flows: For ``flows``, how many.
            at_start: Called once the measured time has begun, of each try.
            shares_cpu: Others are meant to have a part of the CPU.

        Raises:
            TrafficFailed: It didn't run to its end; the program says why on stderr.
        """
        numbers = (way.port, seconds, CPU, self.softirqs, flows)
        command = [str(part) for part in (self.program, mode, way.client, way.server, way.address, *numbers)]
        for _ in range(TRIES):
            sample = _run(command, at_start)
            if shares_cpu or sample.cpu_seconds > UNDISTURBED * sample.seconds:
                break
        return sample


def _run(command: list[str], at_start: Callable[[], None]) -> Sample:
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        if process.stdout.readline():
            at_start()
        result = process.stdout.read()
    if process.returncode:
        raise TrafficFailed(command)
    return msgspec.json.decode(result, type=Sample)


class TrafficFailed(Exception):
    """Traffic didn't run to its end."""

    def __init__(self, command: list[str]) -> None:
        super().__init__(f"failed: {' '.join(command)}")


@contextmanager
def compiled_generator() -> Iterator[Generator]:
    """Compile the program for the block, in which its CPU's ksoftirqd has the priority that traffic
    has.

    Else whatever else the machine does would come between a packet and its receiver, for
    milliseconds.
    """
    (softirqs,) = (int(path.parent.name) for path in Path("/proc").glob("[0-9]*/comm") if _is_ksoftirqd(path))
    former = os.getpriority(os.PRIO_PROCESS, softirqs)
    with TemporaryDirectory() as scratch:
        program = Path(scratch) / "traffic"
        subprocess.run(["cc", *CC_FLAGS, "-o", str(program), str(SOURCE)], check=True)
        os.setpriority(os.PRIO_PROCESS, softirqs, HIGHEST)
        try:
            yield Generator(program, softirqs)
        finally:
            os.setpriority(os.PRIO_PROCESS, softirqs, former)


def _is_ksoftirqd(comm: Path) -> bool:
    try:
        return comm.read_text().strip() == f"ksoftirqd/{CPU}"
    except (FileNotFoundError, ProcessLookupError):
        return False
