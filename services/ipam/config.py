"""Settings of ipam."""

from cilia.errors import BadConfig
from cilia.owner.config import OwnerConfig


class Config(OwnerConfig, frozen=True, kw_only=True):
    """Settings of ipam, beside those of every owner."""

    pools: tuple[str, ...] = ("default=10.0.0.0/8/24",)
    """Pools, each ``name=network/length/block-length``: nodes get blocks of that length."""
    stale_seconds: float = 30.0
    """Silence of its agent after which a node is said to be stale; nothing of it goes."""
    dead_seconds: float = 7200.0
    """Silence after which a node is declared dead, and removed with its blocks and endpoints; 0:
    never.

    Only time in which at least half of the nodes are heard counts.
    """

    def __post_init__(self) -> None:
        OwnerConfig.__post_init__(self)
        self.require_positive("stale_seconds")
        if 0 < self.dead_seconds <= self.stale_seconds or self.dead_seconds < 0:
            raise BadConfig(
                "dead_seconds",
                self.dead_seconds,
                source="configuration",
                reason="must be above stale_seconds, or 0 for never",
            )
