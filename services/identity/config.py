"""Settings of the identity service."""

from cilia.owner.config import OwnerConfig


class Config(OwnerConfig, frozen=True, kw_only=True):
    """Settings of the identity service, beside those of every owner."""

    cluster_id: int = 0
    """Upper byte of this cluster's identities, 0 to 255."""
    identities: str = ""
    """``first-last`` to allocate only a part of the cluster's range."""
    labels: tuple[str, ...] = ()
    """Rules on which labels count for an identity, beside the defaults: ``[!][source:]regex``."""
    gc_seconds: float = 300.0
    """Time between rounds of garbage collection; the third deletes what it finds unused."""
    gc_per_second: float = 100.0
    """Transactions of garbage collection in a second, at most."""
    concurrency: int = 512

    def __post_init__(self) -> None:
        OwnerConfig.__post_init__(self)
        self.require_positive("gc_seconds", "gc_per_second")
