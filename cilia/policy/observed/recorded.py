"""Recorded flows as something that can be judged: their ends as selectors see them, their verdicts
as one.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from typing import Final

import msgspec

from cilia.contracts.flows import PolicyVerdict, RecordedFlow, RecordedPeer
from cilia.contracts.ids import Identity
from cilia.contracts.labels import parse_labels
from cilia.contracts.protocols import IpProtocol, protocol_number
from cilia.policy.engine.engine import INIT, Engine
from cilia.policy.engine.rules import RESERVED
from cilia.policy.engine.selectors import NamedPortOf, view_peer
from cilia.policy.errors import PolicyError
from cilia.policy.explain.mismatch import Packet
from cilia.policy.explain.parties import ENTITIES, NOT_ALLOCATED, End, end_of_address

_BAD_VERDICT = re.compile(r"Invalid enum value (?P<value>.*) - at `\$\[(?P<flow>\d+)\]\.verdict`")
_FLOWS: Final = msgspec.json.Decoder(list[RecordedFlow])


class BadFlows(PolicyError):
    """A record of flows can't be used; says where and why."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")


@dataclass(frozen=True, slots=True)
class ObservedFlow:
    """All that was recorded about one source, destination, protocol and port.

    Attributes:
        verdict: The newest: ``allowed``, ``denied`` or ``audited``.
        count: Verdicts, each flow once, also where both its nodes reported it.
        first_ns, last_ns: Unix time.
    """

    source: RecordedPeer
    destination: RecordedPeer
    packet: Packet
    verdict: PolicyVerdict
    count: int
    first_ns: int
    last_ns: int

    @property
    def passed(self) -> bool:
        """Tell whether its packets passed."""
        return self.verdict is not PolicyVerdict.DENIED


def name_of(end: RecordedPeer) -> str:
    """Return how people call an end."""
    reserved = next((label.removeprefix("reserved:") for label in end.labels if label.startswith("reserved:")), "")
    return end.workload or end.address or reserved or f"identity {end.identity}"


def read_flows(text: str, source: str) -> list[RecordedFlow]:
    """Read recorded flows as ``cilia flows -o json`` prints them.

    Raises:
        BadFlows: It is something else, or a value makes no sense; names the flow and the field.
    """
    try:
        flows = _FLOWS.decode(text)
    except msgspec.DecodeError as error:
        raise BadFlows(source, _describe(error)) from error
    for number, flow in enumerate(flows):
        try:
            _check(flow)
        except ValueError as error:
            raise BadFlows(source, f"flow {number}: {error}") from error
    return flows


def _describe(error: msgspec.DecodeError) -> str:
    """Return what is wrong, with an unknown verdict named as other wrong fields of a flow are."""
    verdict = _BAD_VERDICT.fullmatch(str(error))
    if verdict is None:
        return str(error)
    return f"flow {verdict['flow']}: verdict: {verdict['value']} is not {', '.join(PolicyVerdict)}"


def _check(flow: RecordedFlow) -> None:
    if not 0 <= flow.port <= 65_535:
        raise ValueError(f"port: {flow.port} is not in 0..65535")
    protocol_number(flow.protocol)
    for end in (flow.source, flow.destination):
        if end.address:
            ip_address(end.address)
        elif not end.labels:
            raise ValueError("an end has neither labels nor an address")
        parse_labels(end.labels)
        for prefix in end.prefixes:
            ip_network(prefix)


def gather(flows: Iterable[RecordedFlow]) -> list[ObservedFlow]:
    """Join what is recorded about the same ends and port, the most frequent first."""
    together: dict[tuple[object, ...], list[RecordedFlow]] = {}
    for flow in flows:
        key = (_key(flow.source), _key(flow.destination), flow.protocol, flow.port)
        together.setdefault(key, []).append(flow)
    talks = [_join(group) for group in together.values()]
    return sorted(talks, key=lambda talk: (-talk.count, name_of(talk.source), name_of(talk.destination)))


def _key(end: RecordedPeer) -> tuple[object, ...]:
    return end.labels, end.workload, end.address


def _join(group: list[RecordedFlow]) -> ObservedFlow:
    newest = max(group, key=lambda flow: flow.last_ns)
    first = min(flow.first_ns for flow in group)
    packet = Packet(protocol_number(newest.protocol), newest.port)
    return ObservedFlow(
        newest.source, newest.destination, packet, _verdict(group), _count(group), first, newest.last_ns
    )


def _verdict(group: list[RecordedFlow]) -> PolicyVerdict:
    """Return the newest verdict: egress was asked first, so a later word of the other side means it
    had allowed.
    """
    egress = max((flow for flow in group if flow.egress), key=lambda flow: flow.last_ns, default=None)
    ingress = max((flow for flow in group if not flow.egress), key=lambda flow: flow.last_ns, default=None)
    if ingress is None or (
        egress is not None and egress.verdict is PolicyVerdict.DENIED and egress.last_ns > ingress.last_ns
    ):
        return egress.verdict if egress is not None else PolicyVerdict.DENIED
    return ingress.verdict


def _count(group: list[RecordedFlow]) -> int:
    """Count each flow once: one between nodes is reported by the source's for egress, by the other
    for ingress.
    """
    egress = sum(flow.count for flow in group if flow.egress)
    stopped = sum(flow.count for flow in group if flow.egress and flow.verdict is PolicyVerdict.DENIED)
    return max(egress, stopped + sum(flow.count for flow in group if not flow.egress))


class Ends:
    """Ends of recorded flows under one set of policies, each made once.

    An address belongs to the longest prefix that these policies name, so ends of one set are of no
    use for another.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[tuple[object, ...], End] = {}

    def find(self, end: RecordedPeer) -> End:
        """Return an end.

        Raises:
            BadFlows: Its labels or its address are none.
        """
        key = (end.labels, end.address, end.ports, end.prefixes, end.workload)
        found = self._known.get(key)
        if found is None:
            try:
                found = self._known[key] = self._make(end)
            except ValueError as error:  # BadLabel, too
                raise BadFlows(name_of(end), str(error)) from error
        return found

    def _make(self, end: RecordedPeer) -> End:
        labels = parse_labels(end.labels)
        reserved = next((label.key for label in labels if label.source == RESERVED), "")
        if end.address and (not reserved or reserved.startswith("world")):
            return end_of_address(self._engine, ip_network(end.address))
        identity = ENTITIES.get(reserved, NOT_ALLOCATED) if len(labels) == 1 else NOT_ALLOCATED
        ports = frozenset(
            NamedPortOf(name, IpProtocol[protocol.upper()], port)
            for name, protocol, port in end.ports
            if protocol.upper() in IpProtocol.__members__
        )
        peer = view_peer(Identity(identity), labels, ports=ports)
        if end.prefixes:
            peer = replace(peer, prefixes=tuple(map(ip_network, end.prefixes)))
        return End(name_of(end), peer, is_subject=not reserved or identity == INIT)
