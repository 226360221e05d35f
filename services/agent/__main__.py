"""Agent of one node: opens the kernel, the bus and the rooms, and supervises their loops."""

from contextlib import AsyncExitStack
from signal import SIGINT, SIGTERM
from typing import TypeVar

from cilia.bus import Bus, open_bus
from cilia.datapath.features import missing_features, reads_kernel_context
from cilia.lifecycle import run_service, stop_on_signals, supervise
from cilia.metrics import Metrics
from cilia.telemetry import open_telemetry
from services.agent.api.room import ApiRoom
from services.agent.api.status import Status
from services.agent.config import Config
from services.agent.conntrack.room import ConntrackRoom
from services.agent.drift.reporter import DriftReporter
from services.agent.drift.room import DriftRoom, LookGroup
from services.agent.endpoint.room import EndpointRoom, PodStore
from services.agent.flows.room import FlowRoom
from services.agent.host.room import HostRoom
from services.agent.ipcache.room import IpcacheRoom
from services.agent.kernel import Kernel, open_kernel
from services.agent.loader.datapath import defences_off
from services.agent.metrics.pressure import Pressure
from services.agent.nat.room import NatRoom
from services.agent.node.room import NodeRoom
from services.agent.policy.room import PolicyRoom
from services.agent.room import Room
from services.agent.routes.room import RouteRoom

R = TypeVar("R", bound=Room)


async def run(config: Config) -> None:
    """Run the agent until a signal says stop; pods keep talking after it, and before the bus is
    there.
    """
    metrics = Metrics()
    async with (
        stop_on_signals(SIGTERM, SIGINT) as stop,
        open_kernel(config) as kernel,
        open_bus(config.nats, cluster=config.cluster, name=f"agent-{config.node}") as bus,
        AsyncExitStack() as stack,
    ):
        rooms = await open_rooms(config, kernel, bus, metrics, stack)
        stack.enter_context(open_telemetry(config.telemetry, "agent", metrics))
        await supervise({name: loop for room in rooms for name, loop in room.loops().items()}, stop=stop)


async def open_rooms(config: Config, kernel: Kernel, bus: Bus, metrics: Metrics, stack: AsyncExitStack) -> list[Room]:
    """Open the rooms, each over those before it, and join them; state has come back by then.

    Args:
        stack: Closes them.
    """

    def opened(room: R) -> R:
        stack.callback(room.close)
        return room

    store = PodStore(config)
    node = opened(NodeRoom(config, kernel, bus))
    policy = opened(PolicyRoom(config, kernel, bus, node.tables, store.count))
    ipcache = opened(IpcacheRoom(config, kernel, node.tables, policy.reconciler))
    host = opened(await HostRoom.open(kernel, node, ipcache.revisions.renew))
    host.tell(lambda: ipcache.reconciler.set_host_addresses(host.addresses.own))
    policy.prepare_addresses = ipcache.reconciler.write_new_prefixes
    routes = opened(await RouteRoom.open(config, kernel, node.tables, stack))
    nat = opened(NatRoom(config, kernel, node.tables))
    conntrack = opened(ConntrackRoom(config, kernel))
    endpoints = opened(
        await EndpointRoom.open(config, kernel, store, node, policy.reconciler, ipcache, conntrack.gc.purge)
    )
    flows = opened(FlowRoom(config, kernel, node, store.endpoints, ipcache.desired))
    addresses = {**ipcache.looks(), **host.looks(), **endpoints.looks(), **node.looks(), **nat.looks()}
    looks = {
        "policy": LookGroup(policy.looks(), config.drift_seconds),
        "address": LookGroup(addresses, config.drift_seconds),
        "program": LookGroup(kernel.looks(store.endpoints.devices), config.drift_seconds),
        "route": LookGroup(routes.looks(), config.routes_refresh_seconds),
    }
    drift = opened(DriftRoom(DriftReporter(bus, config.node), looks))

    node.feeds += [ipcache.feed_nodes, routes.reconciler.feed, nat.reconciler.feed]
    node.registered += [ipcache.registered, routes.registered, host.registered]
    node.comparisons.append(endpoints.compare)
    rooms: list[Room] = [kernel, node, host, ipcache, routes, nat, policy, conntrack, drift, endpoints, flows]
    status = Status(
        config,
        node,
        endpoints,
        rooms,
        missing_features=missing_features(),
        defences_off=defences_off(reads_offload=reads_kernel_context()),
    )
    status.measure(metrics)
    entries = {name: read for room in rooms for name, read in room.map_entries().items()}
    Pressure(kernel.objects, entries).measure(metrics)
    return [*rooms, ApiRoom(config, kernel, node, endpoints, policy, ipcache, status, metrics)]


def main() -> None:
    """Entry point of ``cilia-agent``."""
    run_service("agent", Config, run)


if __name__ == "__main__":
    main()
