"""Settings of ipam."""

from cilia.owner.config import OwnerConfig


class Config(OwnerConfig, frozen=True, kw_only=True):
    """Settings of ipam, beside those of every owner."""

    pools: tuple[str, ...] = ("default=10.0.0.0/8/24",)
    """Pools, each ``name=network/length/block-length``: nodes get blocks of that length."""
    lease_seconds: int = 30
    """Time after its last heartbeat in which a node is gone, with its blocks and endpoints."""

    def __post_init__(self) -> None:
        OwnerConfig.__post_init__(self)
        self.require_positive("lease_seconds")
