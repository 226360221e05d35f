"""Flood of datagrams from one machine, as many as a processor sends, for tests and benchmarks of
what its neighbours notice.

Runs as a process of its own inside a network namespace. ``sweep`` takes the next destination port
for each datagram, ``fresh`` a socket, and so a source port, of its own, as resolvers do.
"""

import argparse
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from laboratory.forked import fork
from laboratory.layout import netns_path
from laboratory.machine import Machine

PROGRAM: Final = "laboratory.flood"
PAYLOAD: Final = bytes(32)
HIGHEST: Final = -20
LOOK: Final = 64
"""Datagrams between two looks at the clock."""


@contextmanager
def flooding(
    sender: Machine,
    address: str,
    first: int,
    last: int = 0,
    *,
    fresh: bool = False,
    per_second: int = 0,
    cpu: int | None = None,
) -> Iterator[None]:
    """Send datagrams to the ports ``first`` to ``last`` of an address for the block.

    Args:
        last: By default ``first``.
        fresh: Send each from a socket of its own.
        per_second: Rate; 0: as many as it can.
        cpu: Processor to do it on, as its most important process.
    """
    words = [address, str(first), str(last or first), "--per-second", str(per_second)]
    words += ["--fresh"] if fresh else []
    words += [] if cpu is None else ["--cpu", str(cpu)]
    process = fork(PROGRAM, words, network=netns_path(sender.network))
    try:
        yield
    finally:
        process.kill()
        process.wait(10)


def flood(address: str, first: int, last: int, *, fresh: bool, per_second: int) -> None:
    """Send until killed; what the kernel refuses (no buffers, an error that came back) is tried as
    the next one is.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_DGRAM)
    sent, began = 0, time.monotonic()
    while True:
        if fresh:
            opened.close()
            opened = socket.socket(family, socket.SOCK_DGRAM)
        with suppress(OSError):
            opened.sendto(PAYLOAD, (address, first + sent % (last - first + 1)))
        sent += 1
        if per_second and sent % LOOK == 0:
            time.sleep(max(0.0, began + sent / per_second - time.monotonic()))


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description="Flood an address with datagrams.")
    parser.add_argument("address")
    parser.add_argument("first", type=int, help="first destination port")
    parser.add_argument("last", type=int, help="last destination port")
    parser.add_argument("--fresh", action="store_true", help="a source port of its own for each")
    parser.add_argument("--per-second", type=int, default=0, help="0: as many as it can")
    parser.add_argument("--cpu", type=int, help="the processor to do it on, as its most important process")
    arguments = parser.parse_args()
    if arguments.cpu is not None:
        os.sched_setaffinity(0, {arguments.cpu})
        os.setpriority(os.PRIO_PROCESS, 0, HIGHEST)
    flood(
        arguments.address,
        arguments.first,
        arguments.last,
        fresh=arguments.fresh,
        per_second=arguments.per_second,
    )


if __name__ == "__main__":
    main()
