"""Policies tested as code: what should become of flows in a described cluster, and which rules the
cases touch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from cilia.contracts.explanations import Explained, RulePath
from cilia.policy.explain.explanation import explain
from cilia.policy.explain.judgement import Judge
from cilia.policy.explain.packet import Packet, read_port
from cilia.policy.explain.parties import Party, party_of_address, party_of_identity
from cilia.policy.simulate.cluster import DescribedCluster, DescribedParty
from cilia.policy.simulate.description import BadDescription, Expectation, Expected


@dataclass(frozen=True, slots=True)
class Broken:
    """A flow that is not treated as a case wants it; ``explained`` tells why, None if it has no
    port of the name.
    """

    case: str
    source: str
    destination: str
    port: str
    expected: Expected
    explained: Explained | None


@dataclass(frozen=True, slots=True)
class Results:
    """Results of a run.

    Attributes:
        flows: How many were judged.
        rules: All rules of the policies.
        hit: Those that decided a flow of a case.
    """

    flows: int
    broken: tuple[Broken, ...]
    rules: tuple[RulePath, ...]
    hit: frozenset[RulePath]

    @property
    def missed(self) -> tuple[RulePath, ...]:
        """Rules that no case touches."""
        return tuple(rule for rule in self.rules if rule not in self.hit)

    @property
    def coverage_percent(self) -> float:
        """Share of the rules that a case touches."""
        return 100.0 * (1 - len(self.missed) / len(self.rules)) if self.rules else 100.0


def run_cases(cluster: DescribedCluster) -> Results:
    """Judge every flow of every case.

    Raises:
        BadDescription, BadPort: A case names nobody, or no port.
    """
    flows, judge = 0, Judge(cluster.engine)
    broken: list[Broken] = []
    hit: set[RulePath] = set()
    for number, case in enumerate(cluster.description.cases, 1):
        for source, destination, port in _flows(cluster, case):
            flows += 1
            explained = _explain(cluster, judge, source, destination, port)
            if explained is not None:
                hit |= {rule for side in (explained.egress, explained.ingress) for rule in side.rules}
            if explained is None or explained.allowed != (case.expect is Expected.ALLOWED):
                name = case.name or f"case {number}"
                broken.append(Broken(name, source.name, destination.name, port, case.expect, explained))
    return Results(flows, tuple(broken), tuple(judge.rules), frozenset(hit))


def _flows(cluster: DescribedCluster, case: Expectation) -> Iterator[tuple[DescribedParty, DescribedParty, str]]:
    destinations = [party for name in case.destinations for party in _find(cluster, name)]
    for name in case.sources:
        for source in _find(cluster, name):
            for destination in destinations:
                yield from ((source, destination, port) for port in case.ports if source != destination)


def _find(cluster: DescribedCluster, name: str) -> list[DescribedParty]:
    """Return whom a name means; ``shop/*`` means all pods of a namespace."""
    if "*" not in name:
        return [cluster.find(name)]
    found = [cluster.parties[pod] for pod in cluster.pods if fnmatchcase(pod, name)]
    if not found:
        raise BadDescription(repr(name), "matches no pod of this cluster")
    return found


def _explain(
    cluster: DescribedCluster, judge: Judge, source: DescribedParty, destination: DescribedParty, port: str
) -> Explained | None:
    name, protocol = read_port(port)
    number = destination.number(name, protocol)
    if number is None:
        return None
    return explain(judge, _party(cluster, source), _party(cluster, destination), Packet(protocol, number))


def _party(cluster: DescribedCluster, party: DescribedParty) -> Party:
    if party.address is not None:
        return party_of_address(cluster.engine, party.address)
    return party_of_identity(cluster.engine, party.identity, party.name)
