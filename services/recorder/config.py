"""Settings of the recorder."""

from cilia.owner.config import OwnerConfig


class Config(OwnerConfig, frozen=True, kw_only=True):
    """Settings of the recorder, beside those of every owner."""

    concurrency: int = 1024
    """Requests under way at once, those that wait for etcd included; beyond, callers hear ``busy``.
    """
    distinct_flows: int = 100_000
    """Flows kept for the cluster; beyond, those not seen for longest make room."""
    counts_seconds: float = 60.0
    """Time between two writings of what known flows have counted; new flows are written at once."""

    def __post_init__(self) -> None:
        OwnerConfig.__post_init__(self)
        self.require_positive("distinct_flows", "counts_seconds")
