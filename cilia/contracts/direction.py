"""The two directions of policy, as seen from the endpoint that it is enforced for."""

from enum import StrEnum


class Direction(StrEnum):
    """Direction of a packet or a rule, as seen from the endpoint."""

    INGRESS = "ingress"
    EGRESS = "egress"

    @classmethod
    def of(cls, egress: bool) -> "Direction":
        """Return the direction that a flag tells."""
        return cls.EGRESS if egress else cls.INGRESS
