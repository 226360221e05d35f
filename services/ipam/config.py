"""Settings of ipam."""

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
    pools: tuple[str, ...] = ("default=10.0.0.0/8/24",)
    """Each ``name=network/length/block-length``: nodes get blocks of that length."""
    lease_seconds: int = 30
    """A node that sends no heartbeat for so long is gone, with its blocks and endpoints."""
    concurrency: int = 256
    """Requests under way at once; beyond, callers hear ``busy``."""
    nats: BusConfig = BusConfig()
    etcd: EtcdConfig = EtcdConfig()
    log: LogConfig = LogConfig()
    telemetry: TelemetryConfig = TelemetryConfig()

    def __post_init__(self) -> None:
        for field in ("lease_seconds", "concurrency"):
            value = getattr(self, field)
            if value <= 0:
                raise BadConfig(field, value, source="configuration", reason="must be above 0")
