"""Observed flows: what was recorded about the same ends and port, as one flow with one verdict."""

from collections.abc import Iterable
from dataclasses import dataclass

from cilia.contracts.flows import PolicyVerdict, RecordedFlow, RecordedPeer
from cilia.contracts.protocols import protocol_number
from cilia.policy.explain.packet import Packet


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


def gather(flows: Iterable[RecordedFlow]) -> list[ObservedFlow]:
    """Join what is recorded about the same ends and port, the most frequent first."""
    together: dict[tuple[object, ...], list[RecordedFlow]] = {}
    for flow in flows:
        key = (_key(flow.source), _key(flow.destination), flow.protocol, flow.port)
        together.setdefault(key, []).append(flow)
    joined = [_join(group) for group in together.values()]
    return sorted(joined, key=lambda flow: (-flow.count, name_of(flow.source), name_of(flow.destination)))


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
