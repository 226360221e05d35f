"""Naming of events: what the programs report by number, as a flow that people can read. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from cilia.abi.enums import DropReason, EventKind, PolicyDirection
from cilia.abi.structs import Event
from cilia.contracts.direction import Direction
from cilia.contracts.flow_events import Flow, FlowKind, FlowVerdict
from cilia.contracts.ids import NodeName
from cilia.contracts.protocols import protocol_name
from cilia.datapath.clock import UnixClock
from services.agent.address import unpacked

_KINDS: Final = {
    EventKind.VERDICT: FlowKind.VERDICT,
    EventKind.DROP: FlowKind.DROP,
    EventKind.TRACE: FlowKind.TRACE,
}


@dataclass(frozen=True, slots=True)
class Names:
    """Lookups of names by number; each gives an empty text for what it doesn't know."""

    endpoint: Callable[[int], str]
    """Name of a local endpoint, ``namespace/name``, by its id."""
    address: Callable[[int], str]
    """Name of another node's pod by its address (services.agent.address)."""
    policy: Callable[[int], str]
    """Key of a policy object by its cookie."""


def flow_of(event: Event, node: NodeName, clock: UnixClock, names: Names) -> Flow:
    """Name what an event is about."""
    dropped = event.kind == EventKind.DROP
    source, destination = _address(event.source, event.family), _address(event.destination, event.family)
    return Flow(
        time_ns=clock.unix_ns(event.time_ns),
        node=node,
        kind=_KINDS[EventKind(event.kind)],
        verdict=FlowVerdict.DROPPED if dropped else FlowVerdict.AUDIT if event.audited else FlowVerdict.FORWARDED,
        protocol=protocol_name(event.protocol).lower(),
        source=source,
        destination=destination,
        source_port=event.port[0],
        destination_port=event.port[1],
        source_identity=event.identity[0],
        destination_identity=event.identity[1],
        source_endpoint=_name(event.endpoint[0], event.source, names),
        destination_endpoint=_name(event.endpoint[1], event.destination, names),
        direction=Direction.of(event.direction == PolicyDirection.EGRESS),
        reason=reason_name(event.reason) if dropped else "",
        policy=names.policy(event.cookie) if event.cookie else "",
        bytes=event.length,
        is_reply=bool(event.is_reply),
    )


def reason_name(reason: int) -> str:
    """Return the name of a drop's reason in lower case with dashes."""
    try:
        return DropReason(reason).name.lower().replace("_", "-")
    except ValueError:
        return f"reason-{reason}"


def _name(endpoint: int, address: bytes, names: Names) -> str:
    if endpoint:
        return names.endpoint(endpoint)
    return names.address(unpacked(address))


def _address(data: bytes, family: int) -> str:
    """Return an address as text; empty where the packet has none that we know to read."""
    match family:
        case 4:
            return str(IPv4Address(data[12:]))
        case 6:
            return str(IPv6Address(data))
        case _:
            return ""
