"""Closed choices of the data plane. Generated from BTF by tools/abi.py (make abi); don't edit."""

from enum import IntEnum


class EventKind(IntEnum):
    """``enum event_kind``."""

    VERDICT = 1
    DROP = 2


class Hook(IntEnum):
    """``enum hook``."""

    FROM_POD = 0
    TO_POD = 1
    FROM_OVERLAY = 2
    HOOKS = 4


class PolicyDirection(IntEnum):
    """``enum policy_direction``."""

    INGRESS = 0
    EGRESS = 1


class PolicyLimit(IntEnum):
    """``enum policy_limit``."""

    SUBJECTS = 4096
    ENTRIES = 262144
    ADDRESS_BUCKETS = 65536


class PolicyShape(IntEnum):
    """``enum policy_shape``."""

    ANY = 0
    PROTOCOL = 1
    PORT = 17
    SHAPES = 18
