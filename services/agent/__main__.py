"""The agent of one node: opens the kernel, the bus and its records, builds the parts, supervises the loops."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, SIGTERM

from cilia.abi.maps import EVENTS
from cilia.abi.structs import EVENT
from cilia.bus import Bus, connect_bus
from cilia.calls import serve_node
from cilia.contracts.agent import LoopStatus
from cilia.contracts.messages import Registered, RegisterNode
from cilia.contracts.tables import ENDPOINTS, NODES, ONE_SHARD, POLICIES, RESOLVED
from cilia.datapath.features import missing_features
from cilia.datapath.readers import wait_for_readers
from cilia.datapath.ring import RingBuffer
from cilia.health import serve_health
from cilia.lifecycle import Loop, run_service, stop_on_signals, supervise
from cilia.metrics import Metrics
from cilia.table.subscriber import ALL, TableSubscriber
from cilia.telemetry import open_telemetry
from services.agent.acknowledgements import Acknowledgements
from services.agent.addresses import AddressPool
from services.agent.api import Api, Health, rss_bytes
from services.agent.config import Config
from services.agent.connections import Connections, Parts
from services.agent.conntrack import Conntrack
from services.agent.devices import NodeDevices, ensure_devices, set_gateway
from services.agent.endpoints import Endpoints, PodFiles
from services.agent.flows import DRAIN, Flows
from services.agent.ipcache import Ipcache
from services.agent.kernel import AddressMaps, PolicyMaps
from services.agent.loading import Datapath, attach, load_datapath
from services.agent.locations import Locations
from services.agent.names import PolicyNames, names_of
from services.agent.publication import Publication
from services.agent.realise import Realiser
from services.agent.registration import Registration
from services.agent.unixsocket import Socket
from services.agent.wiring import Blocks, PodWiring
from services.agent.worker import Worker, open_worker


@dataclass(frozen=True, slots=True)
class Node:
    """The node's kernel, opened: devices, programs in place, and the thread that changes links."""

    devices: NodeDevices
    datapath: Datapath
    wiring: PodWiring
    links: Worker
    readers: Worker


@asynccontextmanager
async def open_node(config: Config) -> AsyncIterator[Node]:
    """Have devices and programs in place; what a former agent left goes on meanwhile, and after."""
    blocks = Blocks(config.block, config.block + 1)
    async with open_worker("links") as links, open_worker("readers") as readers:
        devices = await links.run(
            ensure_devices, underlay_ipv4=config.ipv4, vxlan_port=config.vxlan_port, blocks=blocks
        )
        objects = await links.run(load_datapath, config, devices)
        datapath = await links.run(attach, objects, config, devices, blocks)
        wiring = await links.run(PodWiring, blocks)
        try:
            yield Node(devices, datapath, wiring, links, readers)
        finally:
            await links.run(wiring.close)
            datapath.close()


async def run(config: Config) -> None:
    """Run the agent until a signal says stop; pods keep talking after it."""
    metrics = Metrics()
    async with (
        stop_on_signals(SIGTERM, SIGINT) as stop,
        open_node(config) as node,
        connect_bus(config.bus, cluster=config.cluster, name=f"agent-{config.node}") as bus,
    ):
        with ExitStack() as stack:
            loops = await build(config, node, bus, metrics, stack)
            stack.enter_context(open_telemetry(config.telemetry, "agent", metrics))
            await supervise(loops, stop=stop)


async def build(config: Config, node: Node, bus: Bus, metrics: Metrics, stack: ExitStack) -> dict[str, Loop]:
    """Build the agent's parts over what is open and return their loops; state has come back before they start."""
    started = time.monotonic()
    objects = node.datapath.objects
    policy_maps, address_maps = PolicyMaps(objects), AddressMaps(objects)
    conntrack = Conntrack(objects, config.timeouts, config.conntrack_sweep_seconds)
    ring = RingBuffer(os.dup(objects.map_fds[EVENTS.name]), record_size=EVENT.size, limit=DRAIN, name=EVENTS.name)
    for opened in (policy_maps, address_maps, conntrack, ring):
        stack.callback(opened.close)

    nodes = TableSubscriber(bus, NODES, [ONE_SHARD])
    rows = TableSubscriber(bus, ENDPOINTS, ALL)
    resolved = TableSubscriber(bus, RESOLVED)
    policies = TableSubscriber(bus, POLICIES, [ONE_SHARD])

    files = PodFiles(Path(config.state_directory) / "endpoints")
    endpoints = Endpoints(files.load())
    pool = AddressPool()
    ipcache = Ipcache(config.node, config.ipv4)
    locations = Locations(address_maps, ipcache, nodes, rows)
    acknowledgements = Acknowledgements(bus, config.node, endpoints)
    realiser = Realiser(
        policy_maps,
        resolved,
        acknowledge=acknowledgements.publish,
        wait_for_readers=lambda: node.readers.run(wait_for_readers),
    )
    publication = Publication(bus, config.node)

    async def on_registered(answer: Registered) -> None:
        await node.links.run(set_gateway, node.devices.host, pool.gateway)
        locations.set_gateway(answer.node.pod_cidrs[0])
        await connections.on_registered(answer)

    me = RegisterNode(config.node, config.ipv4, labels=config.labels, pool=config.pool)
    registration = Registration(bus, me, pool, on_registered)
    connections = Connections(
        Parts(
            endpoints=endpoints,
            files=files,
            pool=pool,
            wiring=node.wiring,
            worker=node.links,
            maps=address_maps,
            locations=locations,
            realiser=realiser,
            publication=publication,
            registration=registration,
            scrub=conntrack.scrub,
            mtu_bytes=node.devices.mtu_bytes,
        )
    )
    await connections.restore()

    policy_names = PolicyNames(policies)
    flows = Flows(ring, bus, config.node, names_of(endpoints, ipcache, rows, policy_names), publish=config.flows)

    def degraded() -> str:
        refusals = [str(refusal) for refusal in realiser.refused.values()]
        reasons = (registration.last_error, locations.last_error, *refusals, "" if bus.connected else "no bus")
        return "; ".join(reason for reason in reasons if reason)

    def loop_statuses() -> tuple[LoopStatus, ...]:
        return (
            LoopStatus("ipcache", locations.desired, locations.pending, locations.failures, locations.last_error),
            LoopStatus("policy", len(endpoints.identities()), len(realiser.refused), realiser.counters.refused),
            LoopStatus("rows", len(endpoints), connections.unpublished + publication.pending, 0),
            LoopStatus("registration", 1, int(not registration.standing), 0, registration.last_error),
        )

    tables = (("nodes", nodes), ("endpoints", rows), ("resolved", resolved), ("policies", policies))
    health = Health(
        started=started,
        missing_features=missing_features(),
        degraded=degraded,
        starting=lambda: registration.last_error == "" and not (nodes.complete and rows.complete),
        bus_connected=lambda: bus.connected,
        blocks=lambda: pool.blocks,
        loops=loop_statuses,
        tables=tables,
    )
    api = Api(
        config.node,
        config.ipv4,
        endpoints=endpoints,
        connections=connections,
        realiser=realiser,
        objects=objects,
        health=health,
    )
    socket = Socket(Path(config.socket), api.calls(), flows)

    metrics.count("realiser", realiser.counters)
    metrics.count("flows", flows.counters)
    metrics.count("conntrack", conntrack.counters)
    for name, table in tables:
        metrics.count("table", table.counters, table=name)
    metrics.gauge("endpoints", "local endpoints", lambda: len(endpoints))
    metrics.gauge("conntrack_flows", "flows found by the latest sweep", lambda: conntrack.flows)
    metrics.gauge("ipcache_entries", "entries of cilia_ipcache", lambda: locations.desired)
    metrics.gauge("policy_entries", "entries of cilia_policy", lambda: realiser.entries)
    metrics.gauge("policy_capacity_entries", "room in cilia_policy", lambda: policy_maps.capacity)
    metrics.gauge("rss_bytes", "resident memory", rss_bytes)

    return {
        **{f"table {name}": table.run for name, table in tables},
        "nodes": locations.watch_nodes,
        "locations": locations.watch_endpoints,
        "ipcache": locations.run,
        "prune": locations.prune,
        "resolved": realiser.watch,
        "realise": realiser.run,
        "policy names": policy_names.watch,
        "registration": registration.run,
        "growth": registration.grow,
        "withdrawals": publication.run,
        "publications": connections.run,
        "conntrack": conntrack.run,
        "flows": flows.run,
        "socket": socket.run,
        "calls": lambda: serve_node(bus, config.node, api.calls()),
        "health": lambda: serve_health(config.telemetry.listen, metrics, degraded),
    }


def main() -> None:
    """Entry point of ``cilia-agent``."""
    run_service("agent", Config, run)


if __name__ == "__main__":
    main()
