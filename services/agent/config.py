"""Settings of one agent."""

from collections.abc import Callable
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import NoReturn

from msgspec import Struct

from cilia.bus import BusConfig
from cilia.contracts.ids import NodeName
from cilia.contracts.labels import BadLabel
from cilia.contracts.labels import node as node_labels
from cilia.errors import BadConfig
from cilia.logs import LogConfig
from cilia.telemetry import TelemetryConfig

LARGEST_MAP = 1 << 26
"""Entries; the kernel counts the bytes of a map in 32 bits."""
MOST_EVENTS = 1_000_000
"""Reports per second; the programs count seconds of them, times ticks per second, in 32 bits."""


class RoutingMode(StrEnum):
    """Way between pods of different nodes; the same on all nodes of a cluster."""

    OVERLAY = "overlay"
    """Packets travel in VXLAN between the nodes' underlay addresses."""
    NATIVE = "native"
    """Packets travel as they are, by way of the other node's underlay address, on a shared link."""


class MapSizes(Struct, frozen=True, kw_only=True):
    """Capacities of maps, in entries; 0 keeps the object's own, or takes what the share of memory
    gives.
    """

    memory_share: float = 0.0025
    """Part of the node's memory that flows and mappings may take together, where no size is given
    for them.
    """
    least_entries: int = 131072
    """Smallest size of each of these maps, however little the share is."""
    most_entries: int = 1 << 24
    conntrack: int = 0
    """Size of each family's map of flows; 0: from memory."""
    nat: int = 0
    """Size of the map of NAT mappings; 0: from memory."""
    flow_share: float = 0.25
    """Part of the free entries of each family's map of flows that one endpoint may hold of what it
    begins, and of what comes to it.
    """
    endpoints: int = 0
    ipcache: int = 0
    policy: int = 0
    non_masquerade: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.memory_share <= 0.5:
            _refuse("maps.memory_share", self.memory_share, "a part of the memory, 0 to 0.5")
        if not 0 < self.flow_share <= 1:
            _refuse("maps.flow_share", self.flow_share, "a part of what is free, above 0 and up to 1")
        for name in ("conntrack", "nat", "endpoints", "ipcache", "policy", "non_masquerade"):
            if not 0 <= getattr(self, name) <= LARGEST_MAP:
                _refuse(f"maps.{name}", getattr(self, name), f"entries, 0 to {LARGEST_MAP}")
        if not 0 < self.least_entries <= self.most_entries <= LARGEST_MAP:
            _refuse("maps.least_entries", self.least_entries, f"must be 1 to most_entries, {self.most_entries}")


class TimeoutConfig(Struct, frozen=True, kw_only=True):
    """Idle times after which flows are forgotten."""

    tcp_seconds: int = 8000
    tcp_ample_seconds: int = 86_400
    """Idle time of an established connection while less than half of the table is taken."""
    syn_seconds: int = 60
    closing_seconds: int = 10
    other_seconds: int = 60
    crowded_seconds: int = 5
    """Idle time of a flow that nobody has answered, of an endpoint that holds its share."""


class Config(Struct, frozen=True, kw_only=True):
    """An agent runs in its node's network namespace."""

    node: NodeName
    ipv4: str
    """The node's address on the underlay, and the end of its tunnels."""
    ipv6: str = ""
    """IPv6 address of the node, if it has one; tunnels carry both families over IPv4."""
    cluster: str = "local"
    pool: str = "default"
    """Pool of the pods' IPv4 addresses; empty: they have none."""
    pool6: str = ""
    """Pool of the pods' IPv6 addresses; empty: they have none."""
    labels: tuple[str, ...] = ()
    """``key=value`` of the node, by which ``fromNodes`` and ``toNodes`` of policies select it."""
    state_directory: str = "/var/lib/cilia"
    """Directory of the endpoints' records and the node's membership."""
    socket: str = "/run/cilia/agent.sock"
    pin_directory: str = "/sys/fs/bpf/cilia"
    object_file: str = ""
    """The data plane's object; empty: the one that was shipped."""
    routing: RoutingMode = RoutingMode.OVERLAY
    uplinks: tuple[str, ...] = ()
    """Devices by which packets leave for other nodes and the world; empty: the one with the address
    ``ipv4``.
    """
    masquerade: bool = True
    """Give pods' packets to the world the node's address."""
    masquerade_exclude: tuple[str, ...] = ()
    """Networks, such as ``192.0.2.0/24``, where pods are known by their own addresses; the pods'
    own always are.
    """
    nat_quota: int = 8192
    """Most masqueraded flows of one pod at a time; 0: an eighth of those that ``maps.nat`` has room
    for, which is the most in any case.
    """
    routes_refresh_seconds: float = 30.0
    """Pause between two comparisons of the kernel's routes with the desired ones."""
    vxlan_port: int = 8472
    block: int = 0xC111A
    """Number of the pods' ingress tc block; the next is the egress block."""
    conntrack_sweep_seconds: float = 30.0
    drift_seconds: float = 5.0
    """Pause between two looks for drift of the kernel's maps and programs."""
    trace_seconds: float = 5.0
    """Pause between two reports of an established flow; TCP's first and last come at once.

    0: only verdicts.
    """
    event_limit: int = 500
    """Reports per second of one pod's packets at one hook; it may save up four seconds' worth.

    0: no limit, and none of the node's.
    """
    node_event_limit: int = 4000
    """Reports per second of all pods that have spent half of what they may save up; 0: no limit."""
    flows: bool = True
    """Publish flows on the bus."""
    distinct_flows: int = 8192
    """Most distinct flows that are remembered and exported to the recorder; 0: none."""
    nats: BusConfig = BusConfig()
    maps: MapSizes = MapSizes()
    timeouts: TimeoutConfig = TimeoutConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    log: LogConfig = LogConfig()

    def __post_init__(self) -> None:
        _check_address("ipv4", self.ipv4, IPv4Address)
        if self.ipv6:
            _check_address("ipv6", self.ipv6, IPv6Address)
        for cidr in self.masquerade_exclude:
            _check_address("masquerade_exclude", cidr, ip_network)
        for name in ("event_limit", "node_event_limit"):
            if not 0 <= getattr(self, name) <= MOST_EVENTS:
                _refuse(name, getattr(self, name), f"reports per second, 0 to {MOST_EVENTS}")
        try:
            node_labels(self.labels)
        except BadLabel as error:
            _refuse("labels", ",".join(self.labels), str(error))
        if not 0 <= self.nat_quota <= LARGEST_MAP:
            _refuse("nat_quota", self.nat_quota, f"flows, 0 to {LARGEST_MAP}")
        if not self.versions:
            raise BadConfig("pool", self.pool, source="configuration", reason="pods need a pool: this, pool6 or both")

    @property
    def versions(self) -> tuple[int, ...]:
        """The families of which pods get an address."""
        return tuple(version for version, pool in ((4, self.pool), (6, self.pool6)) if pool)


def _refuse(field: str, value: object, reason: str) -> NoReturn:
    raise BadConfig(field, str(value), source="configuration", reason=reason)


def _check_address(field: str, text: str, kind: Callable[[str], object]) -> None:
    try:
        kind(text)
    except ValueError as error:
        raise BadConfig(field, text, source="configuration", reason=str(error)) from error
