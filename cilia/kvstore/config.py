"""Settings of the connection to etcd."""

from datetime import timedelta
from pathlib import Path

from msgspec import Struct

from cilia.errors import BadConfig


class EtcdConfig(Struct, frozen=True, kw_only=True):
    """Endpoints as ``host:port``; TLS with ``ca``, mutual TLS with ``certificate`` and ``key``."""

    endpoints: tuple[str, ...] = ("127.0.0.1:2379",)
    user: str = ""
    password: str = ""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    timeout_seconds: float = 3.0
    """Limit of one call, its retries on other endpoints included."""
    max_txn_ops: int = 128
    """Operations of one transaction: etcd's --max-txn-ops, which it doesn't tell. At least 16."""
    max_request_bytes: int = 1_572_864
    """Size of one transaction: etcd's --max-request-bytes. At least 64 KiB."""

    def __post_init__(self) -> None:
        for name, value, least in (
            ("etcd.max_txn_ops", self.max_txn_ops, 16),
            ("etcd.max_request_bytes", self.max_request_bytes, 65_536),
        ):
            if value < least:
                raise BadConfig(name, value, source="configuration", reason=f"must be at least {least}")

    @property
    def timeout(self) -> timedelta:
        """Bound of one call."""
        return timedelta(seconds=self.timeout_seconds)
