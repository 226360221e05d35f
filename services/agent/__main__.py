"""The agent of one node: opens the kernel, the bus and its records, builds the parts, supervises
the loops.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
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
from services.agent.drift.loop import DriftLoop
from services.agent.drift.reporter import DriftReporter
from services.agent.endpoint.drift import EndpointDrift
from services.agent.endpoint.lifecycle import EndpointLifecycle, LifecycleParts
from services.agent.endpoint.maps import EndpointMap
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
from services.agent.ipcache.drift import IpcacheDrift
from services.agent.ipcache.maps import IpcacheMap
from services.agent.ipcache.reconciler import IpcacheReconciler, IpcacheSources, PolicyInForce
from services.agent.ipcache.revisions import AddressRevisions
from services.agent.loader.drift import ProgramDrift
from services.agent.loader.placement import Placement
from services.agent.metrics.outcomes import Outcomes
from services.agent.metrics.pressure import Pressure
from services.agent.nat.desired import NonMasqueradeCidrs
from services.agent.nat.gc import NatGc
from services.agent.nat.maps import NonMasqueradeMap
from services.agent.nat.reconciler import NonMasqueradeReconciler
from services.agent.netlink.worker import Worker, open_worker
from services.agent.node.devices import NodeDevices, ensure_devices, set_gateways
from services.agent.node.gateways import GatewayMap
from services.agent.node.registration import Registration
from services.agent.node.tables import Tables, watch_nodes
from services.agent.policy.acknowledgements import Acknowledgements
from services.agent.policy.drift import PolicyDrift
from services.agent.policy.maps import PolicyMaps
from services.agent.policy.reconciler import PolicyReconciler
from services.agent.routes.reconciler import open_routes


@dataclass(frozen=True, slots=True)
class Node:
    """The node's kernel, opened: devices, programs in place, and the threads for calls that block."""

    config: Config
    devices: NodeDevices
    objects: LoadedObject
    placement: Placement
    wiring: PodLinks
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
        wiring = await links.run(PodLinks, blocks)
        try:
            yield Node(config, devices, objects, placement, wiring, links, readers)
        finally:
            await links.run(wiring.close)
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
        AsyncExitStack() as stack,
    ):
        loops = await build(config, node, bus, metrics, stack)
        stack.enter_context(open_telemetry(config.telemetry, "agent", metrics))
        await supervise(loops, stop=stop)


async def build(config: Config, node: Node, bus: Bus, metrics: Metrics, stack: AsyncExitStack) -> dict[str, Loop]:
    """Build the agent's parts over what is open and return their loops; state has come back before
    they start.
    """
    objects = node.objects
    policy_maps, revisions, gateway_map = PolicyMaps(objects), AddressRevisions(objects), GatewayMap(objects)
    ipcache_map, endpoint_map = IpcacheMap(objects, revisions), EndpointMap(objects, revisions)
    conntrack = Conntrack(objects, config.timeouts, config.conntrack_sweep_seconds)
    ring = RingBuffer(objects.map_fd(EVENTS.name), record_size=EVENT.size, limit=DRAIN, name=EVENTS.name)
    outcomes = Outcomes(objects)
    for opened in (policy_maps, revisions, gateway_map, ipcache_map, endpoint_map, conntrack, ring, outcomes):
        stack.callback(opened.close)

    tables = Tables.subscribe(bus, config.node)
    files = PodFiles(Path(config.state_directory) / "endpoints")
    endpoints = Endpoints(files.load())
    pool = AddressPool(versions=config.versions)
    is_native = config.routing is RoutingMode.NATIVE
    ipcache = Ipcache(config.node, *filter(None, (config.ipv4, config.ipv6)), tunnels=not is_native)
    routing = await stack.enter_async_context(
        open_routes(
            config.node,
            None if is_native else node.devices.vxlan,
            node.links,
            nodes_complete=tables.nodes.wait_complete,
            refresh_seconds=config.routes_refresh_seconds,
        )
    )
    mappings, non_masquerade_map = NatGc(objects, config.conntrack_sweep_seconds), NonMasqueradeMap(objects)
    for masquerading in (mappings, non_masquerade_map):
        stack.callback(masquerading.close)
    cidrs = NonMasqueradeCidrs(config.masquerade_exclude)
    non_masquerade = NonMasqueradeReconciler(cidrs, non_masquerade_map, tables.nodes.wait_complete)
    realiser = PolicyReconciler(
        policy_maps,
        tables.resolved,
        acknowledge=Acknowledgements(bus, config.node, endpoints, policy_maps.capacity).publish,
        synchronize_rcu=lambda: node.readers.run(synchronize_rcu),
    )
    locations = IpcacheReconciler(
        ipcache,
        ipcache_map,
        IpcacheSources(tables.nodes, tables.endpoints, tables.prefixes),
        PolicyInForce(realiser.wait_reached, realiser.inherit),
    )
    drift, read = DriftReporter(bus, config.node), node.readers.run
    policy_drift = PolicyDrift(policy_maps, realiser, lambda: read(policy_maps.read_sets))
    looks = {
        "policy": {"policy maps": policy_drift.look},
        "addresses": {
            "ipcache": IpcacheDrift(locations, ipcache_map, read, revisions.renew_all).look,
            "endpoints": EndpointDrift(endpoint_map, read).look,
            "gateways": lambda: gateway_map.look(read),
        },
        "programs": {"programs": ProgramDrift(node.placement, endpoints.devices, node.links.run).look},
    }
    publication = Publication(bus, config.node)

    def answer_for(gateways: Iterable[int]) -> None:
        gateways = set(gateways)
        gateway_map.write(gateways)
        locations.set_hosts(gateways)

    async def on_registered(_: Registered) -> None:
        gateways = pool.gateways
        await node.links.run(set_gateways, node.devices.host, [*filter(None, gateways)])
        answer_for(number(gateway) for gateway in gateways if gateway)
        routing.register({4: gateways.ipv4, 6: gateways.ipv6})
        connections.publish_all()

    me = RegisterNode(config.node, config.ipv4, config.ipv6, config.labels, config.pool, config.pool6)
    registration = Registration(bus, me, pool, Path(config.state_directory) / "lease", on_registered)
    parts = LifecycleParts(
        endpoints=endpoints,
        files=files,
        pool=pool,
        wiring=node.wiring,
        worker=node.links,
        maps=endpoint_map,
        locations=locations,
        realiser=realiser,
        publication=publication,
        registration=registration,
        purge=conntrack.purge,
        mtu_bytes=node.devices.mtu_bytes,
    )
    connections = EndpointLifecycle(parts)
    answer_for(number(gateway) for pod in endpoints for _, gateway in pod.gateways)
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
        non_masquerade=non_masquerade,
        realiser=realiser,
        conntrack=conntrack,
        mappings=mappings,
        flows=flows,
        drift=drift,
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
        "nodes": lambda: watch_nodes(tables.nodes, (locations.feed_nodes, routing.feed, non_masquerade.feed)),
        "routes": routing.run,
        "routes' prune": routing.prune,
        "routes' refresh": routing.refresh,
        "non-masquerade": non_masquerade.run,
        "non-masquerade prune": non_masquerade.prune,
        "endpoints": locations.watch_endpoints,
        "prefixes": locations.watch_prefixes,
        "ipcache": locations.run,
        "ipcache prune": locations.prune,
        "resolved": realiser.watch,
        "realise": lambda: realiser.run(locations.write_new_prefixes),
        "cleanup": realiser.cleanups.run,
        **{f"{part} drift": DriftLoop(each, drift, seconds=config.drift_seconds).run for part, each in looks.items()},
        "drift": drift.run,
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
