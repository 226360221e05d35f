"""Settings that every service with state in etcd has."""

import os
import socket

from msgspec import Struct

from cilia.bus import BusConfig
from cilia.errors import BadConfig
from cilia.kvstore import EtcdConfig
from cilia.logs import LogConfig
from cilia.telemetry import TelemetryConfig


class OwnerConfig(Struct, frozen=True, kw_only=True):
    """Base of the services' settings; read by :func:`cilia.config.load`."""

    cluster: str = "local"
    replica: str = f"{socket.gethostname()}-{os.getpid()}"
    """Name of this process among the service's replicas."""
    concurrency: int = 256
    """Requests under way at once; beyond, callers hear ``busy``."""
    election_seconds: int = 5
    """Time after which an elected replica that died is succeeded by another."""
    nats: BusConfig = BusConfig()
    etcd: EtcdConfig = EtcdConfig()
    log: LogConfig = LogConfig()
    telemetry: TelemetryConfig = TelemetryConfig()

    def __post_init__(self) -> None:
        self.require_positive("concurrency", "election_seconds")

    def require_positive(self, *fields: str) -> None:
        """Refuse settings that must be above 0 and are not.

        Raises:
            BadConfig: Names the first one, and its value.
        """
        for field in fields:
            value = getattr(self, field)
            if value <= 0:
                raise BadConfig(field, value, source="configuration", reason="must be above 0")
