"""Numbers of identities: which one a new label set may try.

Pure; the kvstore's transaction decides who gets it.
"""

import re
from collections.abc import Container, Mapping
from random import Random
from typing import Final

from cilia.contracts.identities import Reserved, cluster_range
from cilia.contracts.ids import Identity
from cilia.contracts.labels import Labels
from cilia.errors import BadConfig

PROBES: Final = 16
"""Random tries before the range is searched: with a half full range all fail once in 65,536 times.
"""

RESERVED_BY_LABEL: Final[Mapping[str, Identity]] = {each.label: Identity(each) for each in Reserved}


def pick_number(numbers: range, taken: Container[int], random: Random) -> Identity | None:
    """Pick a free number at random, or return None if ``taken`` holds them all.

    At random, so that replicas seldom collide, and a number that was freed just now seldom returns
    while some node still remembers its old meaning.
    """
    for _ in range(PROBES):
        number = numbers[random.randrange(len(numbers))]
        if number not in taken:
            return Identity(number)
    start = random.randrange(len(numbers))
    for step in range(len(numbers)):
        number = numbers[(start + step) % len(numbers)]
        if number not in taken:
            return Identity(number)
    return None


def reserved_identity(labels: Labels) -> Identity | None:
    """Return the number of a set that is exactly one known ``reserved:`` label; None for all other
    sets.
    """
    if len(labels) != 1:
        return None
    return RESERVED_BY_LABEL.get(str(next(iter(labels))))


def number_range(cluster_id: int, limits: str) -> range:
    """Return the numbers that this cluster may allocate: all of its range, or the part named by
    ``limits``.

    Args:
        cluster_id: 0 to 255.
        limits: Empty, or ``first-last`` within the cluster's range.

    Raises:
        BadConfig: The cluster's id or the limits are impossible.
    """
    if not 0 <= cluster_id <= 255:
        raise BadConfig("cluster_id", cluster_id, source="configuration", reason="must be 0 to 255")
    whole = cluster_range(cluster_id)
    if not limits:
        return whole
    match = re.fullmatch(r"(\d+)-(\d+)", limits)
    if match is None:
        raise BadConfig("identities", limits, source="configuration", reason="must be first-last, such as 256-65535")
    first, last = int(match[1]), int(match[2])
    if first > last or first not in whole or last not in whole:
        reason = f"must lie within {whole[0]}-{whole[-1]}, the range of cluster {cluster_id}"
        raise BadConfig("identities", limits, source="configuration", reason=reason)
    return range(first, last + 1)
