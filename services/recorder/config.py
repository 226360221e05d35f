"""Settings of the recorder."""

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
    replica: str = f"{socket.gethostname()}-{os.getpid()}"
    """Names this process among the service's replicas."""
    concurrency: int = 1024
    """Requests under way at once, those that wait for etcd included; beyond, callers hear ``busy``.
    """
    distinct_flows: int = 100_000
    """Kept for the cluster; beyond, those not seen for longest make room."""
    counts_seconds: float = 60.0
    """Between two writings of counts and times of flows that are kept already; new flows are
    written at once.
    """
    nats: BusConfig = BusConfig()
    etcd: EtcdConfig = EtcdConfig()
    log: LogConfig = LogConfig()
    telemetry: TelemetryConfig = TelemetryConfig()

    def __post_init__(self) -> None:
        for name, value in (
            ("concurrency", self.concurrency),
            ("distinct_flows", self.distinct_flows),
            ("counts_seconds", self.counts_seconds),
        ):
            if value <= 0:
                raise BadConfig(name, value, source="configuration", reason="must be above 0")
