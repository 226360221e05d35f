"""Addresses and prefixes of both families as the maps have them: 128 bits.

An IPv4 address is mapped (RFC 4291, 2.5.5.2): 192.0.2.1 is ::ffff:192.0.2.1, and a /24 of it a
/120. So one table, one order and one longest match serve both families.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, NamedTuple

HOST_BITS: Final = 128
MAPPED: Final = 0xFFFF << 32
"""Prefix of mapped addresses, to which an IPv4 address is added."""
MAPPED_BITS: Final = 96


class Prefix(NamedTuple):
    """A prefix; the address in host order, without bits behind ``length``."""

    address: int
    length: int = HOST_BITS

    def holds(self, inner: "Prefix") -> bool:
        """Tell whether ``inner`` is a part of it, or it itself."""
        behind = HOST_BITS - self.length
        return self.length <= inner.length and self.address >> behind == inner.address >> behind


def number(address: str) -> int:
    """Return an address as a number in host order.

    Raises:
        ValueError: It is none.
    """
    parsed = ip_address(address)
    return int(parsed) | MAPPED if parsed.version == 4 else int(parsed)


def ipv4_number(address: str) -> int:
    """Return an IPv4 address as the 32 bits that it has outside of the maps, in host order."""
    return int(IPv4Address(address))


def is_ipv4(number: int) -> bool:
    """Tell whether an address is a mapped one."""
    return number >> 32 == 0xFFFF


def text(number: int) -> str:
    """Return what :func:`number` was given."""
    return str(IPv4Address(number ^ MAPPED) if is_ipv4(number) else IPv6Address(number))


def packed(number: int) -> bytes:
    """Return an address as ``struct address``."""
    return number.to_bytes(16, "big")


def unpacked(address: bytes) -> int:
    """Return ``struct address`` as a number."""
    return int.from_bytes(address, "big")


def prefix(cidr: str) -> Prefix:
    """Return a network such as ``10.0.0.0/8`` or ``fd00::/64``.

    Raises:
        ValueError: It is none, or has bits behind its length.
    """
    network = ip_network(cidr)
    length = network.prefixlen + (MAPPED_BITS if network.version == 4 else 0)
    return Prefix(number(str(network.network_address)), length)


def cidr_of(prefix: Prefix) -> str:
    """Return a prefix as CIDR, with the length that its family has outside of the maps."""
    is_mapped = prefix.length >= MAPPED_BITS and is_ipv4(prefix.address)
    return f"{text(prefix.address)}/{prefix.length - (MAPPED_BITS if is_mapped else 0)}"
