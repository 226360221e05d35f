"""Remove from a node all that its agent made: programs, routes, devices, pods' links, pinned maps,
records.

What an agent makes outlives it on purpose, so that pods keep talking; this is for a node that
leaves the cluster, which forgets it. The underlay's devices lose our programs only: what others
have there stays. Pods that still run lose their network.
"""

import logging
import shutil
import socket
from pathlib import Path
from typing import Final

from msgspec import structs
from pyroute2.iproute.linux import IPRoute

from cilia.bus import connect_bus
from cilia.contracts.ids import Incarnation
from cilia.contracts.ipam import UnregisterNode
from cilia.contracts.messages import Revised
from cilia.errors import Failure, Refused, Unavailable
from cilia.lifecycle import run_service
from services.agent.config import Config
from services.agent.endpoint.store import PodFiles
from services.agent.loader.attachments import drop_filters, drop_links
from services.agent.loader.devices import HOST, VXLAN
from services.agent.netlink.tc import TrafficControl
from services.agent.netlink.worker import open_worker
from services.agent.node.registration import MEMBERSHIP_FILE, read_membership
from services.agent.routes.table import RouteTable

log = logging.getLogger(__name__)

DEVICES: Final = (HOST, VXLAN)
LEAVE_SECONDS: Final = 5.0
"""Time to find the bus, and time for the answer."""


class AgentRuns(Failure):
    """The node's agent would make everything anew."""

    def __init__(self, path: str) -> None:
        super().__init__(f"an agent answers at {path}; stop it first")


async def run(config: Config) -> None:
    """Do it in a thread, as netlink wants it, and then leave the cluster."""
    membership = Path(config.state_directory) / MEMBERSHIP_FILE
    kept = read_membership(membership)
    async with open_worker("links") as worker:
        await worker.run(tear_down, config)
    if kept.incarnation:
        await leave(config, kept.incarnation)
    membership.unlink(missing_ok=True)


async def leave(config: Config, incarnation: Incarnation) -> None:
    """Have ipam remove the node; where it can't be asked, somebody has to say so later."""
    request, nats = (
        UnregisterNode(config.node, incarnation),
        structs.replace(config.nats, connect_seconds=LEAVE_SECONDS),
    )
    try:
        async with connect_bus(nats, cluster=config.cluster, name=f"agent-{config.node}") as bus:
            await bus.request(bus.subjects.request("ipam", "unregister"), request, Revised, timeout=LEAVE_SECONDS)
    except (Refused, Unavailable) as error:
        log.warning("the cluster still has this node (%s); remove it: cilia node delete %s", error, config.node)


def tear_down(config: Config) -> None:
    """Remove it all; what is gone already is fine.

    Raises:
        AgentRuns: Nothing is removed.
    """
    if _answers(config.socket):
        raise AgentRuns(config.socket)
    endpoints = Path(config.state_directory) / "endpoints"
    links = [pod.host_interface for pod in PodFiles(endpoints).load()]
    drop_links(Path(config.pin_directory))
    with TrafficControl() as control:
        drop_filters(control)
    _remove_routes()
    _remove_devices(*links, *DEVICES)
    for directory in (Path(config.pin_directory), endpoints):
        shutil.rmtree(directory, ignore_errors=True)
    log.info("the node is free of us", extra={"pods": len(links)})


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _remove_routes() -> None:
    table = RouteTable()
    try:
        table.write(dict.fromkeys(table.read()))
    finally:
        table.close()


def _remove_devices(*names: str) -> None:
    with IPRoute() as netlink:
        for name in names:
            for index in netlink.link_lookup(ifname=name):
                netlink.link("del", index=index)


def main() -> None:
    """Entry point of ``cilia-agent-teardown``; takes the agent's settings."""
    run_service("agent-teardown", Config, run)


if __name__ == "__main__":
    main()
