"""Short TCP connections, many one after the other: ``serve`` on some ports, ``connect`` to them and
count what fails.

Runs as a process of its own inside a network namespace, so that client and server each have a CPU.
Several ports, since a closed connection occupies the client's port towards one of them for a
minute.
"""

import argparse
import json
import select
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Final

MESSAGE: Final = b"sixteen letters."
PATIENCE_SECONDS: Final = 0.9
"""Time of a connection: a SYN that is lost is sent again after a second, which would hide it."""
MOST_FAILURES: Final = 20


def serve(ports: Sequence[int]) -> None:
    """Answer each connection with what it sends, and close it, until killed."""
    listening = []
    for port in ports:
        listening.append(socket.create_server(("", port), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True))
    print("listening", flush=True)
    while True:
        for ready in select.select(listening, [], [])[0]:
            connection, _ = ready.accept()
            with closing(connection):
                connection.sendall(connection.recv(64))


def connect(address: str, ports: Sequence[int], count: int) -> dict[str, object]:
    """Make ``count`` connections in turn to the ports; return how many failed, and how.

    Gives up after many.
    """
    failures: list[str] = []
    began = time.perf_counter()
    for number in range(count):
        if len(failures) == MOST_FAILURES:
            break
        try:
            with closing(socket.create_connection((address, ports[number % len(ports)]), PATIENCE_SECONDS)) as opened:
                opened.sendall(MESSAGE)
                if opened.recv(64) != MESSAGE:
                    failures.append(f"{number}: another answer")
        except OSError as error:
            failures.append(f"{number}: {error}")
    seconds = time.perf_counter() - began
    return {"count": number + 1, "failed": len(failures), "failures": failures, "seconds": round(seconds, 3)}


def main() -> None:
    """Serve or connect."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("serve").add_argument("ports", type=int, nargs="+")
    connecting = verbs.add_parser("connect")
    connecting.add_argument("address")
    connecting.add_argument("count", type=int)
    connecting.add_argument("ports", type=int, nargs="+")
    arguments = parser.parse_args()
    if arguments.verb == "serve":
        serve(arguments.ports)
    json.dump(connect(arguments.address, arguments.ports, arguments.count), sys.stdout)


if __name__ == "__main__":
    main()
