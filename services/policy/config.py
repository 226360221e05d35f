"""Settings of the policy service."""

from cilia.owner.config import OwnerConfig


class Config(OwnerConfig, frozen=True, kw_only=True):
    """Settings of the policy service: those of every owner.

    Its requests under way include those that wait for agents.
    """
