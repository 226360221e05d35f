"""The agent of one node: opens the kernel, the bus and its records, builds the parts, supervises
the loops.
"""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, SIGTERM

from cilia.abi.maps import CT4, CT6, EVENTS, IPCACHE, NAT, POLICY, POLICY_SLOTS
from cilia.abi.structs import EVENT
from cilia.bus import Bus, open_bus
from cilia.calls import serve_node
from cilia.contracts.ipam import Registered, RegisterNode
from cilia.datapath.errors import DatapathError
from cilia.datapath.features import missing_features
from cilia.datapath.objects import LoadedObject
from cilia.datapath.rcu import synchronize_rcu
from cilia.datapath.ring import RingBuffer
from cilia.health import serve_health
from cilia.lifecycle import Loop, run_service, stop_on_signals, supervise
from cilia.metrics import Metrics
from cilia.telemetry import open_telemetry
from services.agent.address import number
from services.agent.api.calls import Api
from services.agent.api.socket import Socket
from services.agent.api.status import Health
from services.agent.config import Config, RoutingMode
from services.agent.conntrack.gc import Conntrack
from services.agent.endpoint.lifecycle import EndpointLifecycle, LifecycleParts
from services.agent.endpoint.pool import AddressPool
from services.agent.endpoint.publication import Publication
from services.agent.endpoint.store import Endpoints, PodFiles
from services.agent.endpoint.veth import PodLinks, TcBlocks
from services.agent.errors import AgentError, CannotStart
from services.agent.flows.distinct import DistinctFlows
from services.agent.flows.events import DRAIN, Flows
from services.agent.flows.export import Recording
from services.agent.flows.names import PolicyNames, names_of, ports_of
from services.agent.ipcache.desired import Ipcache
from services.agent.ipcache.drift import AddressDrift
from services.agent.ipcache.maps import AddressMaps
from services.agent.ipcache.reconciler import IpcacheReconciler
from services.agent.loader.drift import ProgramDrift
from services.agent.loader.placement import Placement
from services.agent.metrics.drift import DriftReports
from services.agent.metrics.outcomes import Outcomes
from services.agent.metrics.pressure import Pressure
from services.agent.nat.excluded import ExcludedCidrMap, ExcludedCidrReconciler, ExcludedCidrs
from services.agent.nat.gc import NatGc
from services.agent.netlink.worker import Worker, open_worker
from services.agent.node.devices import NodeDevices, ensure_devices, set_gateways
from services.agent.node.registration import Registration
from services.agent.node.tables import Tables, watch_nodes
from services.agent.policy.acknowledgements import Acknowledgements
from services.agent.policy.drift import PolicyDrift
from services.agent.policy.maps import PolicyMaps
from services.agent.policy.reconciler import PolicyReconciler
from services.agent.routes.desired import NativeWay, OverlayWay, Routes
from services.agent.routes.reconciler import RouteReconciler
from services.agent.routes.table import RouteTable


@dataclass(frozen=True, slots=True)
class Node:
    """The node's kernel, opened: devices, programs in place, and the threads for calls that block."""

    config: Config
    devices: NodeDevices
    objects: LoadedObject
    placement: Placement
    wiring: PodLinks
    route_table: RouteTable
    links: Worker
    readers: Worker


@asynccontextmanager
async def open_node(config: Config) -> AsyncIterator[Node]:
    """Have devices and programs in place; what a former agent left goes on meanwhile, and after.

    Raises:
        CannotStart: The kernel refuses.
    """
    blocks = TcBlocks(config.block, config.block + 1)
    async with open_worker("links") as links, open_worker("readers") as readers:
        try:
            devices = await links.run(
                ensure_devices,
                underlay_ipv4=config.ipv4,
                uplinks=config.uplinks,
                vxlan_port=config.vxlan_port if config.routing is RoutingMode.OVERLAY else None,
                blocks=blocks,
            )
            placement = Placement(config, devices, blocks)
            objects = await links.run(placement.install)
        except (AgentError, DatapathError, OSError) as error:
            raise CannotStart(str(error)) from error
        wiring, route_table = await links.run(PodLinks, blocks), await links.run(RouteTable)
        try:
            yield Node(config, devices, objects, placement, wiring, route_table, links, readers)
        finally:
            await links.run(wiring.close)
            await links.run(route_table.close)
            objects.close()


async def run(config: Config) -> None:
    """Run the agent until a signal says stop; pods keep talking after it, and before the bus is
    there.
    """
    metrics = Metrics()
    async with (
        stop_on_signals(SIGTERM, SIGINT) as stop,
        open_node(config) as node,
        open_bus(config.nats, cluster=config.cluster, name=f"agent-{config.node}") as bus,
    ):
        with ExitStack() as stack:
            loops = await build(config, node, bus, metrics, stack)
            stack.enter_context(open_telemetry(config.telemetry, "agent", metrics))
            await supervise(loops, stop=stop)


async def build(config: Config, node: Node, bus: Bus, metrics: Metrics, stack: ExitStack) -> dict[str, Loop]:
    """Build the agent's parts over what is open and return their loops; state has come back before
    they start.
    """
    objects = node.objects
    policy_maps, address_maps = PolicyMaps(objects), AddressMaps(objects)
    conntrack = Conntrack(objects, config.timeouts, config.conntrack_sweep_seconds)
    ring = RingBuffer(objects.map_fd(EVENTS.name), record_size=EVENT.size, limit=DRAIN, name=EVENTS.name)
    outcomes = Outcomes(objects)
    for opened in (policy_maps, address_maps, conntrack, ring, outcomes):
        stack.callback(opened.close)

    tables = Tables.subscribe(bus, config.node)
    files = PodFiles(Path(config.state_directory) / "endpoints")
    endpoints = Endpoints(files.load())
    pool = AddressPool(versions=config.versions)
    is_native = config.routing is RoutingMode.NATIVE
    ipcache = Ipcache(config.node, *filter(None, (config.ipv4, config.ipv6)), tunnels=not is_native)
    overlay_way = OverlayWay(node.devices.vxlan)
    routes = Routes(config.node, NativeWay() if is_native else overlay_way)
    routing = RouteReconciler(routes, node.route_table, node.links, tables.nodes, config.routes_repair_seconds)
    mappings, exclusion_map = NatGc(objects, config.conntrack_sweep_seconds), ExcludedCidrMap(objects)
    for masquerading in (mappings, exclusion_map):
        stack.callback(masquerading.close)
    exclusions = ExcludedCidrReconciler(ExcludedCidrs(config.masquerade_exclude), exclusion_map, tables.nodes)
    realiser = PolicyReconciler(
        policy_maps,
        tables.resolved,
        acknowledge=Acknowledgements(bus, config.node, endpoints, policy_maps.capacity).publish,
        synchronize_rcu=lambda: node.readers.run(synchronize_rcu),
    )
    locations = IpcacheReconciler(
        address_maps, ipcache, tables.nodes, tables.endpoints, tables.prefixes, realiser.wait_reached, realiser.inherit
    )
    faults, seconds = DriftReports(bus, config.node), config.audit_seconds
    audit = PolicyDrift(policy_maps, realiser, lambda: node.readers.run(policy_maps.read_sets), faults, seconds=seconds)
    address_audit = AddressDrift(address_maps, node.readers, faults, seconds=seconds)
    program_audit = ProgramDrift(node.placement, endpoints, node.links, faults, seconds=seconds)
    publication = Publication(bus, config.node)

    async def on_registered(_: Registered) -> None:
        gateways = pool.gateways
        await node.links.run(set_gateways, node.devices.host, [*filter(None, gateways)])
        locations.set_gateways({number(gateway) for gateway in gateways if gateway})
        overlay_way.sources.update({4: gateways.ipv4, 6: gateways.ipv6})
        routing.renew()
        connections.publish_all()

    me = RegisterNode(config.node, config.ipv4, config.ipv6, config.labels, config.pool, config.pool6)
    registration = Registration(bus, me, pool, Path(config.state_directory) / "lease", on_registered)
    parts = LifecycleParts(
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
    connections = EndpointLifecycle(parts)
    locations.set_gateways({number(gateway) for pod in endpoints for _, gateway in pod.gateways})
    await connections.restore()

    policy_names = PolicyNames(tables.policies)
    names = names_of(endpoints, ipcache, tables.endpoints, policy_names)
    distinct = DistinctFlows(config.distinct_flows, ports_of(endpoints, ipcache, tables.endpoints))
    record = distinct.take if config.distinct_flows else None
    flows = Flows(ring, bus, config.node, names, outcomes.lost_events, publish=config.flows, record=record)
    metrics.count("distinct_flows", distinct.counters)
    metrics.gauge("distinct_flows", "distinct flows that the agent remembers", lambda: len(distinct))
    health = Health(
        config=config,
        bus=bus,
        tables=tables,
        endpoints=endpoints,
        pool=pool,
        registration=registration,
        publication=publication,
        connections=connections,
        locations=locations,
        routing=routing,
        exclusions=exclusions,
        realiser=realiser,
        conntrack=conntrack,
        mappings=mappings,
        flows=flows,
        faults=faults,
        missing_features=missing_features(),
    )
    health.measure(metrics)
    counts = {
        CT4.name: lambda: conntrack.found[CT4.name],
        CT6.name: lambda: conntrack.found[CT6.name],
        NAT.name: lambda: mappings.entries,
        IPCACHE.name: lambda: locations.desired,
        POLICY.name: lambda: realiser.entries,
        POLICY_SLOTS.name: lambda: realiser.subjects,
    }
    Pressure(objects, counts).measure(metrics)
    outcomes.measure(metrics)
    api = Api(
        config.node,
        endpoints=endpoints,
        connections=connections,
        realiser=realiser,
        locations=locations,
        objects=objects,
        health=health,
    )
    socket = Socket(Path(config.socket), api.calls(), flows)
    return {
        **tables.loops(),
        "nodes": lambda: watch_nodes(tables.nodes, (locations.feed_nodes, routing.feed, exclusions.feed)),
        "routes": routing.run,
        "exclusions": exclusions.run,
        "routes' repair": routing.repair,
        "locations": locations.watch_endpoints,
        "prefixes": locations.watch_prefixes,
        "ipcache": locations.run,
        "prune": locations.prune,
        "resolved": realiser.watch,
        "realise": lambda: realiser.run(locations.settle_prefixes),
        "cleanup": realiser.cleanups.run,
        "audit": audit.run,
        "addresses' audit": address_audit.run,
        "programs' audit": program_audit.run,
        "faults": faults.run,
        "policy names": policy_names.watch,
        "registration": registration.run,
        "growth": registration.grow,
        "withdrawals": publication.run,
        "publications": connections.run,
        "conntrack": conntrack.run,
        "mappings": mappings.run,
        "flows": flows.run,
        "recording": Recording(bus, config.node, distinct).run,
        "socket": socket.run,
        "calls": lambda: serve_node(bus, config.node, api.calls()),
        "health": lambda: serve_health(config.telemetry.listen, metrics, health.degraded),
    }


def main() -> None:
    """Entry point of ``cilia-agent``."""
    run_service("agent", Config, run)


if __name__ == "__main__":
    main()
