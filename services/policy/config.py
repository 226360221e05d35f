"""Settings of the policy service."""

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
    concurrency: int = 256
    """Requests under way at once, those that wait for agents included; beyond, callers hear
    ``busy``.
    """
    nats: BusConfig = BusConfig()
    etcd: EtcdConfig = EtcdConfig()
    log: LogConfig = LogConfig()
    telemetry: TelemetryConfig = TelemetryConfig()

    def __post_init__(self) -> None:
        if self.concurrency <= 0:
            raise BadConfig("concurrency", self.concurrency, source="configuration", reason="must be above 0")
