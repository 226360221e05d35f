"""Ports, protocols and ICMP types as both languages write them."""

import re
from collections.abc import Sequence
from typing import Final

from cilia.contracts.protocols import TRANSPORTS, IpProtocol
from cilia.policy.engine.rules import NamedPort, PortRange, Ports
from cilia.policy.language.documents import Field

PORTLESS: Final = {"VRRP": 112, "IGMP": 2, "GRE": 47, "IPIP": 4, "IPV6": 41, "ESP": 50, "AH": 51}
_PROTOCOLS: Final = ("ANY", *TRANSPORTS, *PORTLESS)
_ANY_TRANSPORT: Final = tuple(TRANSPORTS.values())
MAX_PORTS: Final = 40
LAST_PORT: Final = 65_535
_NUMBER: Final = re.compile(r"0|[1-9][0-9]*")
_NUMBERLIKE: Final = re.compile(r"0[0-9]+|0[xX][0-9A-Fa-f]+|0[oO][0-7]+|0[bB][01]+")
_NAME: Final = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9]|-(?!-)){0,13}[a-z0-9]|[a-z]")

ICMP_TYPES: Final = {
    "EchoReply": 0,
    "DestinationUnreachable": 3,
    "Redirect": 5,
    "Echo": 8,
    "EchoRequest": 8,
    "RouterAdvertisement": 9,
    "RouterSelection": 10,
    "TimeExceeded": 11,
    "ParameterProblem": 12,
    "Timestamp": 13,
    "TimestampReply": 14,
    "Photuris": 40,
    "ExtendedEchoRequest": 42,
    "ExtendedEchoReply": 43,
}
ICMPV6_TYPES: Final = {
    "DestinationUnreachable": 1,
    "PacketTooBig": 2,
    "TimeExceeded": 3,
    "ParameterProblem": 4,
    "EchoRequest": 128,
    "EchoReply": 129,
    "MulticastListenerQuery": 130,
    "MulticastListenerReport": 131,
    "MulticastListenerDone": 132,
    "RouterSolicitation": 133,
    "RouterAdvertisement": 134,
    "NeighborSolicitation": 135,
    "NeighborAdvertisement": 136,
    "RedirectMessage": 137,
    "RouterRenumbering": 138,
    "ICMPNodeInformationQuery": 139,
    "ICMPNodeInformationResponse": 140,
    "InverseNeighborDiscoverySolicitation": 141,
    "InverseNeighborDiscoveryAdvertisement": 142,
    "HomeAgentAddressDiscoveryRequest": 144,
    "HomeAgentAddressDiscoveryReply": 145,
    "MobilePrefixSolicitation": 146,
    "MobilePrefixAdvertisement": 147,
    "DuplicateAddressRequestCodeSuffix": 157,
    "DuplicateAddressConfirmationCodeSuffix": 158,
    "ExtendedEchoRequest": 160,
    "ExtendedEchoReply": 161,
}


def cilium_ports(at: Field) -> Ports:
    """Read ``toPorts[].ports``."""
    items = at.items()
    if len(items) > MAX_PORTS:
        at.refuse(f"has {len(items)} ports; at most {MAX_PORTS} are allowed")
    return tuple(port for item in items for port in _cilium_port(item))


def _cilium_port(at: Field) -> Ports:
    body = at.mapping().only("port", "endPort", "protocol")
    protocol = body.get("protocol")
    name = protocol.text().upper() if protocol is not None else "ANY"
    if protocol is not None and name not in _PROTOCOLS:
        protocol.refuse(f"must be one of {', '.join(_PROTOCOLS)}")
    number, end = body.get("port"), body.get("endPort")
    if name in PORTLESS:
        if number is not None and number.text() not in ("", "0"):
            number.refuse(f'must be "0": {name} has no ports')
        return (PortRange(PORTLESS[name]),)
    port = body.require("port")
    protocols = _ANY_TRANSPORT if name == "ANY" else (TRANSPORTS[name],)
    return _numbered_or_named(port, port.text(), end, protocols)


def _numbered_or_named(port: Field, text: str, end: Field | None, protocols: Sequence[int]) -> Ports:
    if not text:
        port.refuse('must be a number or a name; "0" is every port')
    if _NUMBER.fullmatch(text):
        number = int(text)
        if number > LAST_PORT:
            port.refuse(f"must be 0 to {LAST_PORT}")
        first, last = _range(number, end)
        return tuple([PortRange(protocol, first, last) for protocol in protocols])
    if _NUMBERLIKE.fullmatch(text):
        port.refuse("is not a decimal number; Cilium would take it as hexadecimal, octal or a name")
    if not _NAME.fullmatch(text.lower()):
        port.refuse("is neither a number nor a port name (at most 15 letters, digits and single dashes)")
    if end is not None and end.integer(0, LAST_PORT):
        end.refuse("a named port has no range")
    return tuple(NamedPort(protocol, text.lower()) for protocol in protocols)


def _range(first: int, end: Field | None) -> tuple[int, int]:
    last = end.integer(0, LAST_PORT) if end is not None else 0
    if end is not None and last and last < first:
        end.refuse(f"lies below the port {first}")
    if end is not None and last and not first:
        end.refuse('the port "0" is every port and has no range')
    return (first, last or first) if first else (0, LAST_PORT)


def kubernetes_port(at: Field) -> Ports:
    """Read an element of ``ports``; the protocol defaults to TCP, no port is every port."""
    body = at.mapping().only("port", "endPort", "protocol")
    protocol = body.get("protocol")
    number = TRANSPORTS[protocol.one_of(tuple(TRANSPORTS))] if protocol is not None else IpProtocol.TCP
    port, end = body.get("port"), body.get("endPort")
    if port is None:
        if end is not None:
            end.refuse("needs a port")
        return (PortRange(number),)
    if isinstance(port.value, str):
        return _kubernetes_name(port, end, number)
    first = port.integer(1, LAST_PORT)
    last = end.integer(1, LAST_PORT) if end is not None else first
    if end is not None and last < first:
        end.refuse(f"lies below the port {first}")
    return (PortRange(number, first, last),)


def _kubernetes_name(port: Field, end: Field | None, protocol: int) -> Ports:
    text = port.text()
    if not _NAME.fullmatch(text):
        port.refuse("is no port name (at most 15 small letters, digits and single dashes)")
    if end is not None:
        end.refuse("a named port has no range")
    return (NamedPort(protocol, text),)


def icmp_types(at: Field) -> Ports:
    """Read ``icmps[].fields``; a type takes the place of the port."""
    items = at.items()
    if len(items) > MAX_PORTS:
        at.refuse(f"has {len(items)} types; at most {MAX_PORTS} are allowed")
    return tuple(_icmp_type(item) for item in items)


def _icmp_type(at: Field) -> PortRange:
    body = at.mapping().only("family", "type")
    family = body.get("family")
    is_ipv6 = family is not None and family.one_of(("IPv4", "IPv6")) == "IPv6"
    kind = body.require("type")
    names = ICMPV6_TYPES if is_ipv6 else ICMP_TYPES
    if isinstance(kind.value, str) and not _NUMBER.fullmatch(kind.value):
        if kind.value not in names:
            kind.refuse(f"is no ICMP type of {'IPv6' if is_ipv6 else 'IPv4'}")
        number = names[kind.value]
    else:
        number = int(kind.value) if isinstance(kind.value, str) else kind.integer(0, 255)
    if not 0 <= number <= 255:
        kind.refuse("must be 0 to 255")
    if not number:
        kind.refuse("type 0 means every type to Cilium; echo replies pass as replies without a rule")
    return PortRange(IpProtocol.ICMPV6 if is_ipv6 else IpProtocol.ICMP, number, number)
