"""Network namespaces of a local cluster, made and removed with iproute2."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cilia.errors import Failure
from cilia.netns import DIRECTORY, inside
from laboratory.layout import Layout, netns_path

SWITCHES: Final = {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv6/conf/default/accept_dad": "0"}


class NetworkFailed(Failure):
    """iproute2 refused something."""

    def __init__(self, command: str, reason: str) -> None:
        super().__init__(f"ip {command}: {reason.strip()}")


def create_namespace(name: str) -> None:
    """Make a network namespace with its loopback up, that forwards.

    Its links skip duplicate address detection: for some two seconds a router would have no
    link-local address to ask for a neighbour from, so forward no IPv6.

    Raises:
        NetworkFailed: It exists already, or root is missing.
    """
    ip("", [f"netns add {name}"])
    ip(f"-n {name}", ["link set lo up"])
    with inside(netns_path(name)):
        for switch, value in SWITCHES.items():
            Path("/proc/sys/net", switch).write_text(value)


def delete_namespace(name: str) -> None:
    """Remove a network namespace and the links in it; one that is gone is fine."""
    if netns_path(name).exists():
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def namespaces_of(layout: Layout) -> list[str]:
    """Return all network namespaces of a cluster, its pods' included."""
    if not DIRECTORY.exists():
        return []
    return sorted(path.name for path in DIRECTORY.iterdir() if path.name.startswith(layout.namespace_prefix))


def ip(options: str, commands: Sequence[str]) -> None:
    """Run iproute2's commands in order, all in one process.

    Raises:
        NetworkFailed: One was refused; those after it were not run.
    """
    run = subprocess.run(
        ["ip", *options.split(), "-batch", "-"], input="\n".join(commands), text=True, capture_output=True, check=False
    )
    if run.returncode:
        raise NetworkFailed("; ".join(commands), run.stderr)
