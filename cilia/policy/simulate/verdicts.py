"""The verdicts of a described cluster as rows: each source, destination, protocol and port."""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

from cilia.contracts.protocols import protocol_name
from cilia.policy.engine.verdict import Verdict
from cilia.policy.explain.packet import read_port
from cilia.policy.simulate.cluster import DescribedCluster, DescribedParty


class SideOutcome(StrEnum):
    """Outcome of one side's policies."""

    ALLOWED = "allowed"
    DENIED = "denied"
    AUDITED = "audited"
    """Let through and reported."""
    NOT_ENFORCED = "not-enforced"
    """No policy is enforced there: outside of the cluster."""


class SideVerdict(Struct, frozen=True):
    """Verdict of one side's policies."""

    verdict: SideOutcome
    by: str = ""
    """The key of the policy that decides, or ``default``."""


class VerdictRow(Struct, frozen=True):
    """Verdict on one flow; ``allowed`` is None where the destination has no port of that name."""

    source: str
    destination: str
    protocol: str
    port: int | str
    allowed: bool | None
    egress: SideVerdict | None = None
    ingress: SideVerdict | None = None


def judge_all(cluster: DescribedCluster, probes: Sequence[str]) -> Iterator[VerdictRow]:
    """Yield the verdict of every flow between parties of the description; nobody is judged against
    itself.

    Raises:
        BadPort: A probe is no port and protocol.
    """
    keys = {policy.cookie: key for key, policy in cluster.policies.items()}
    for probe in probes:
        port, protocol = read_port(probe)
        for source in cluster.parties.values():
            for destination in cluster.parties.values():
                if source != destination:
                    yield _judge(cluster, source, destination, port, protocol, keys)


def _judge(
    cluster: DescribedCluster,
    source: DescribedParty,
    destination: DescribedParty,
    port: str,
    protocol: int,
    keys: Mapping[int, str],
) -> VerdictRow:
    number, name = destination.number(port, protocol), protocol_name(protocol)
    if number is None:
        return VerdictRow(source.name, destination.name, name, port, None)
    found = cluster.judge(source, destination, protocol=protocol, port=number)
    sides = (_describe(side, keys) for side in (found.egress, found.ingress))
    return VerdictRow(source.name, destination.name, name, number, found.allowed, *sides)


def _describe(side: Verdict | None, keys: Mapping[int, str]) -> SideVerdict:
    if side is None:
        return SideVerdict(SideOutcome.NOT_ENFORCED)
    verdict = SideOutcome.ALLOWED if side.allowed else SideOutcome.DENIED
    if side.audited:
        verdict = SideOutcome.AUDITED
    return SideVerdict(verdict, keys[side.cookie] if side.cookie else "default")
