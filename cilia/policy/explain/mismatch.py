"""Mismatches between a flow and what a rule wants."""

from collections.abc import Iterator

from cilia.contracts.explanations import Criterion, Mismatch, MismatchKind
from cilia.contracts.labels import CLUSTER, NAMESPACE, NAMESPACE_LABELS
from cilia.contracts.protocols import protocol_name
from cilia.policy.engine.mapstate import NameLookup
from cilia.policy.engine.rules import (
    CIDR,
    RESERVED,
    Block,
    NamedPort,
    Operator,
    PortRange,
    Requirement,
    Rule,
    Selector,
    within,
)
from cilia.policy.explain.packet import Packet
from cilia.policy.explain.parties import Party


def differ_from_selector(selector: Selector, end: Party, criterion: Criterion) -> tuple[Mismatch, ...]:
    """Return what keeps a selector, a rule's ``criterion``, from selecting a party."""
    found = [_unmet(item, end, criterion) for item in selector.requirements if not item.admits(end.peer.labels)]
    return (*found, *_outside(selector.block, end, criterion))


def _unmet(item: Requirement, end: Party, criterion: Criterion) -> Mismatch:
    key = item.key if item.source in ("any", "k8s") else f"{item.source}:{item.key}"
    value = end.peer.labels.get((item.source, item.key))
    if item.source == RESERVED:
        return Mismatch(
            criterion,
            MismatchKind.ENTITY,
            f"{'not ' if item.operator is Operator.ABSENT else ''}{item.key}",
            _kind(end),
        )
    if item.source == CIDR:
        if item.operator is Operator.ABSENT:
            return Mismatch(criterion, MismatchKind.EXCEPT, f"an address outside of {item.key}", _addresses(end))
        return Mismatch(criterion, MismatchKind.CIDR, item.key, _addresses(end))
    kind = MismatchKind.LABEL
    if item.key in (NAMESPACE, CLUSTER):
        kind = MismatchKind.NAMESPACE if item.key == NAMESPACE else MismatchKind.CLUSTER
        key = kind.value
    elif item.key.startswith(NAMESPACE_LABELS):
        kind, key = MismatchKind.NAMESPACE, f"namespace's label {item.key.removeprefix(NAMESPACE_LABELS)}"
    found = f"no {key}" if value is None else f"{key}={value}"
    if kind is MismatchKind.NAMESPACE and value is None and not end.namespace:
        found = _kind(end)
    return Mismatch(criterion, kind, _wish(item, key), found)


def _wish(item: Requirement, key: str) -> str:
    match item.operator:
        case Operator.IN:
            return f"{key}={item.values[0]}" if len(item.values) == 1 else f"{key} in ({', '.join(item.values)})"
        case Operator.NOT_IN:
            return f"{key} not in ({', '.join(item.values)})"
        case Operator.EXISTS:
            return f"any {key}"
        case Operator.ABSENT:
            return f"no {key}"


def _outside(block: Block | None, end: Party, criterion: Criterion) -> Iterator[Mismatch]:
    if block is None:
        return
    concerned = [prefix for prefix in end.peer.prefixes if prefix.version == block.cidr.version]
    if concerned and all(map(block.holds, concerned)):
        return
    if concerned and all(within(prefix, block.cidr) for prefix in concerned):
        holes = ", ".join(map(str, block.excepts))
        yield Mismatch(criterion, MismatchKind.EXCEPT, f"an address outside of {holes}", _addresses(end))
    else:
        yield Mismatch(criterion, MismatchKind.CIDR, str(block.cidr), _addresses(end))


def _kind(end: Party) -> str:
    entities = [key for source, key in end.peer.labels if source == RESERVED]
    return ", ".join(entities) if entities else f"a workload of namespace {end.namespace}"


def _addresses(end: Party) -> str:
    if end.address is not None:
        return str(end.address.network_address)
    if end.namespace and not end.peer.prefixes:
        return "a workload of the cluster"
    return ", ".join(map(str, end.peer.prefixes)) or _kind(end)


def differ_from_peers(rule: Rule, peer: Party) -> tuple[Mismatch, ...]:
    """Return what keeps the nearest of a rule's peers from being this one."""
    if rule.peers is None:
        return ()
    if not rule.peers:
        return (Mismatch(Criterion.PEER, MismatchKind.NOBODY, "no peer at all", peer.name),)
    return min((differ_from_selector(selector, peer, Criterion.PEER) for selector in rule.peers), key=len)


def differ_from_ports(rule: Rule, packet: Packet, lookup: NameLookup) -> tuple[Mismatch, ...]:
    """Return what keeps the nearest of a rule's ports from being this one."""
    if rule.ports is None:
        return ()
    ranked = [_port(port, packet, lookup, rule.deny) for port in rule.ports]
    distance, nearest = min(ranked, key=lambda item: item[0])
    return () if distance == 0 or nearest is None else (nearest,)


def _port(port: PortRange | NamedPort, packet: Packet, lookup: NameLookup, deny: bool) -> tuple[int, Mismatch | None]:
    """Return how far a port is from the packet's, 0 for a match, and the difference."""
    same_protocol = port.protocol == packet.protocol
    protocol = protocol_name(port.protocol)
    if isinstance(port, NamedPort):
        numbers = sorted(lookup(port))
        if not numbers or (len(numbers) > 1 and not deny):
            found = f"names {', '.join(map(str, numbers))}" if numbers else "nobody names it"
            return 200_000, Mismatch(Criterion.PORT, MismatchKind.PORT_NAME, f"{port.name}/{protocol}", found)
        first = last = min(numbers, key=lambda number: abs(number - packet.port))
        wanted = f"{port.name}/{protocol} ({first})"
    else:
        first, last = port.first, port.last
        wanted = f"{first}/{protocol}" if first == last else f"{first}-{last}/{protocol}"
        if (first, last) == (0, 65_535):
            wanted = f"any/{protocol}"
    distance = max(first - packet.port, packet.port - last, 0)
    if same_protocol:
        return distance, Mismatch(Criterion.PORT, MismatchKind.PORT, wanted, str(packet))
    return 100_000 + distance, Mismatch(
        Criterion.PORT, MismatchKind.PORT if distance else MismatchKind.PROTOCOL, wanted, str(packet)
    )
