"""Settings of the identity service."""

import os
import socket

from msgspec import Struct

from cilia.bus import BusConfig
from cilia.errors import BadConfig
from cilia.kvstore import EtcdConfig
from cilia.logs import LogConfig
from cilia.telemetry import TelemetryConfig


class Config(Struct, frozen=True, kw_only=True):
    """Read by :func:`cilia.config.load`."""

    cluster: str = "local"
    cluster_id: int = 0
    """0 to 255; the upper byte of this cluster's identities."""
    replica: str = f"{socket.gethostname()}-{os.getpid()}"
    """Names this process among the service's replicas."""
    identities: str = ""
    """``first-last`` to allocate only a part of the cluster's range."""
    labels: tuple[str, ...] = ()
    """Rules on which labels count for an identity, beside the defaults: ``[!][source:]regex``."""
    gc_seconds: float = 300.0
    """Between rounds of garbage collection; an unused identity goes in the second round that finds
    it so.
    """
    gc_per_second: float = 100.0
    """At most so many transactions of garbage collection."""
    concurrency: int = 512
    """Requests under way at once; beyond, callers hear ``busy``."""
    nats: BusConfig = BusConfig()
    etcd: EtcdConfig = EtcdConfig()
    log: LogConfig = LogConfig()
    telemetry: TelemetryConfig = TelemetryConfig()

    def __post_init__(self) -> None:
        for field in ("gc_seconds", "gc_per_second", "concurrency"):
            value = getattr(self, field)
            if value <= 0:
                raise BadConfig(field, value, source="configuration", reason="must be above 0")
