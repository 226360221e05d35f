"""Settings of one agent."""

from enum import StrEnum

from msgspec import Struct

from cilia.bus import BusConfig
from cilia.contracts.ids import NodeName
from cilia.logs import LogConfig
from cilia.telemetry import TelemetryConfig


class RoutingMode(StrEnum):
    """How pods of different nodes reach each other; the same on all nodes of a cluster."""

    OVERLAY = "overlay"
    """In VXLAN between the nodes' underlay addresses."""
    NATIVE = "native"
    """As they are, by way of the other node's underlay address: the nodes share a link."""


class MapSizes(Struct, frozen=True, kw_only=True):
    """Capacities of maps, in entries; 0 keeps the object's own."""

    conntrack: int = 0
    endpoints: int = 0
    ipcache: int = 0
    policy: int = 0


class TimeoutConfig(Struct, frozen=True, kw_only=True):
    """After how many idle seconds a flow is forgotten."""

    tcp_seconds: int = 8000
    syn_seconds: int = 60
    closing_seconds: int = 10
    other_seconds: int = 60


class Config(Struct, frozen=True, kw_only=True):
    """An agent runs in its node's network namespace."""

    node: NodeName
    ipv4: str
    """The node's address on the underlay."""
    cluster: str = "local"
    pool: str = "default"
    labels: tuple[str, ...] = ()
    """``key=value`` of the node."""
    state_directory: str = "/var/lib/cilia"
    """Endpoints are kept here."""
    socket: str = "/run/cilia/agent.sock"
    pin_directory: str = "/sys/fs/bpf/cilia"
    object_file: str = ""
    """The data plane's object; empty: the one that was shipped."""
    routing: RoutingMode = RoutingMode.OVERLAY
    routes_repair_seconds: float = 30.0
    """Between two comparisons of the kernel's routes to other nodes' pods with what they ought to be."""
    vxlan_port: int = 8472
    block: int = 0xC111A
    """Number of the pods' ingress tc block; the next is the egress block."""
    conntrack_sweep_seconds: float = 30.0
    audit_seconds: float = 5.0
    """Between two comparisons of the kernel's policy with what it ought to be."""
    flows: bool = True
    """Publish flows on the bus."""
    distinct_flows: int = 8192
    """Distinct flows that are remembered, and told to the recorder; 0: none."""
    nats: BusConfig = BusConfig()
    maps: MapSizes = MapSizes()
    timeouts: TimeoutConfig = TimeoutConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    log: LogConfig = LogConfig()
