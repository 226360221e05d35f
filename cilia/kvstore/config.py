"""How to reach etcd."""

from datetime import timedelta
from pathlib import Path

from msgspec import Struct


class EtcdConfig(Struct, frozen=True, kw_only=True):
    """Endpoints are ``host:port``; with ``ca`` the connection is TLS, with ``certificate`` and ``key`` mutual TLS."""

    endpoints: tuple[str, ...] = ("127.0.0.1:2379",)
    user: str = ""
    password: str = ""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    timeout_seconds: float = 3.0
    """Of one call, its retries on other endpoints included."""

    @property
    def timeout(self) -> timedelta:
        """Bound of one call."""
        return timedelta(seconds=self.timeout_seconds)
