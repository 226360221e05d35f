"""IP protocols by number and name, as policies, flows and endpoints share them."""

from enum import IntEnum
from typing import Final


class IpProtocol(IntEnum):
    """IP protocols that have a name in policies and flows."""

    ICMP = 1
    TCP = 6
    UDP = 17
    ICMPV6 = 58
    SCTP = 132


TRANSPORTS: Final = {each.name: each for each in (IpProtocol.TCP, IpProtocol.UDP, IpProtocol.SCTP)}
"""Protocols whose packets have ports, by name."""
_NAMES: Final = {int(each): each.name for each in IpProtocol}


def protocol_name(number: int) -> str:
    """Return a protocol's name in capitals, or its number as text where it has none here."""
    return _NAMES.get(number, str(number))


def protocol_number(name: str) -> int:
    """Return the number of a protocol that goes by its name or number.

    Raises:
        ValueError: It is neither.
    """
    if name.isdigit() and int(name) < 256:
        return int(name)
    try:
        return IpProtocol[name.upper()]
    except KeyError:
        names = ", ".join(IpProtocol.__members__)
        raise ValueError(f"protocol: {name!r} is none of {names}, and no number below 256") from None
