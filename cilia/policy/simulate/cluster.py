"""Described clusters behind the engine: parties by name, and the verdicts between them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from itertools import count

from cilia.contracts.identities import FIRST_ALLOCATED, Reserved, node_range, prefix_range
from cilia.contracts.ids import Identity
from cilia.contracts.labels import CLUSTER, Label, Labels, named_port_labels, node, parse_labels, workload
from cilia.contracts.protocols import TRANSPORTS
from cilia.policy.engine.engine import Engine
from cilia.policy.engine.events import EndpointsChanged, IdentityPut, ModeSet, PolicyPut
from cilia.policy.engine.options import Options
from cilia.policy.engine.reserved import labels_of_prefix, world_of
from cilia.policy.engine.rules import Policy, Prefix, within
from cilia.policy.engine.selectors import ContainerPort
from cilia.policy.engine.verdict import StateLookup, Verdict
from cilia.policy.explain.parties import ENTITIES, Owner
from cilia.policy.language.parse import ParsedPolicy, parse_policies
from cilia.policy.simulate.description import BadDescription, DescribedPort, Description


@dataclass(frozen=True, slots=True)
class DescribedParty:
    """Someone that talks or is talked to.

    Attributes:
        ports: The ports that it names.
        address: Of someone outside of the cluster who goes by it.
    """

    name: str
    identity: Identity
    ports: frozenset[ContainerPort] = frozenset()
    address: Prefix | None = None

    def number(self, port: str, protocol: int) -> int | None:
        """Return the number of a port that may go by a name; None if it has none of that name."""
        if port.isdigit():
            return int(port)
        return next((item.port for item in self.ports if (item.name, item.protocol) == (port, protocol)), None)


@dataclass(frozen=True, slots=True)
class FlowVerdict:
    """Verdicts of both sides of a flow; None where no policy is enforced: outside."""

    egress: Verdict | None
    ingress: Verdict | None

    @property
    def allowed(self) -> bool:
        """Tell whether both sides let it pass."""
        return all(side is None or side.allowed for side in (self.egress, self.ingress))


class DescribedCluster:
    """A described cluster. The engine in it is the one of the policy service."""

    def __init__(self, description: Description, policies: Sequence[ParsedPolicy]) -> None:
        self.description = description
        self.policies = {item.key: item.policy for item in policies}
        options = Options(mode=description.mode, dual_stack=description.dual_stack)
        self.engine = Engine(options)
        self._labels: dict[Labels, Identity] = {}
        self._numbers = count(FIRST_ALLOCATED)
        self._members: dict[Identity, tuple[set[str], set[ContainerPort]]] = {}
        self._prefixes = dict(zip(_sorted(_prefixes(self.policies.values())), prefix_range(), strict=False))
        self.parties = {party.name: party for party in (*self._identities(), *self._pods(), *self._nodes())}
        modes = [ModeSet(each.mode, each.audit) for item in policies if (each := item.enforcement) is not None]
        self.engine.apply([*map(PolicyPut, self.policies.values()), *modes, *self._facts()])
        self.pods = {name: party.identity for name, party in self.parties.items()}
        self._node_names = {item.name for item in description.nodes}
        self._owners = dict(self._addresses())
        outside = (*description.addresses, *description.entities)
        self.parties |= {name: self.find(name) for name in outside}
        self._states: dict[Identity, StateLookup] = {}

    def pod(self, name: str) -> Owner | None:
        """Return a pod by ``namespace/name``, or a node (:class:`.Directory` of explanations)."""
        identity = self.pods.get(name)
        if identity is None:
            return None
        is_node = name in self._node_names
        return Owner(name, identity, name if is_node else "", is_node)

    def at(self, address: str) -> Owner | None:
        """Return who of the cluster has an address, likewise."""
        return self._owners.get(address)

    def find(self, name: str) -> DescribedParty:
        """Return a party by name: a pod, an identity's number, an entity, an address.

        Raises:
            BadDescription: There is none.
        """
        if name in self.parties:
            return self.parties[name]
        if f"default/{name}" in self.parties:
            return self.parties[f"default/{name}"]
        if name in ENTITIES:
            return DescribedParty(name, ENTITIES[name])
        try:
            address = ip_network(ip_address(name))
        except ValueError:
            raise BadDescription(repr(name), "is no pod, identity, entity or address of this cluster") from None
        owner = self.at(str(address.network_address))
        return (
            DescribedParty(name, self.identity_of(address), address=address)
            if owner is None
            else self.parties[owner.name]
        )

    def identity_of(self, address: Prefix) -> Identity:
        """Return the identity of an address outside: that of the longest prefix that a policy
        names, or the world.
        """
        covering = [prefix for prefix in self._prefixes if within(address, prefix)]
        if covering:
            return Identity(self._prefixes[max(covering, key=lambda prefix: prefix.prefixlen)])
        return world_of(address, dual_stack=self.description.dual_stack)

    def judge(self, source: DescribedParty, destination: DescribedParty, *, protocol: int, port: int) -> FlowVerdict:
        """Return the verdicts on a flow, by the map states that the kernel would hold."""

        def side(subject: DescribedParty, peer: DescribedParty, egress: bool) -> Verdict | None:
            state = self._state(subject.identity)
            if state is None:
                return None
            return state.decide(peer.identity, egress=egress, protocol=protocol, port=port)

        return FlowVerdict(side(source, destination, True), side(destination, source, False))

    def _state(self, subject: Identity) -> StateLookup | None:
        if subject not in self.engine.subjects:
            return None
        if subject not in self._states:
            self._states[subject] = StateLookup(self.engine.map_state(subject))
        return self._states[subject]

    def _identities(self) -> Iterator[DescribedParty]:
        for item in self.description.identities:
            identity, ports = Identity(item.id), _named(item.ports)
            self._labels[parse_labels(item.labels)] = identity
            self._join(identity, item.addresses, ports)
            yield DescribedParty(str(item.id), identity, ports)

    def _pods(self) -> Iterator[DescribedParty]:
        place = {Label("k8s", CLUSTER, self.description.cluster)} if self.description.cluster else frozenset[Label]()
        for pod in self.description.pods:
            labels = workload(pod.namespace, pod.labels, self.description.namespaces.get(pod.namespace)) | place
            labels |= named_port_labels((item.name, item.protocol, item.port) for item in pod.ports)
            if labels not in self._labels:
                taken = set(self._labels.values())
                self._labels[labels] = next(number for n in self._numbers if (number := Identity(n)) not in taken)
            ports = _named(pod.ports)
            self._join(self._labels[labels], pod.addresses, ports)
            yield DescribedParty(f"{pod.namespace}/{pod.name}", self._labels[labels], ports)

    def _addresses(self) -> Iterator[tuple[str, Owner]]:
        pods = ((f"{pod.namespace}/{pod.name}", pod.addresses) for pod in self.description.pods)
        nodes = ((item.name, item.addresses) for item in self.description.nodes)
        for name, addresses in (*pods, *nodes):
            owner = self.pod(name)
            if owner is not None:
                yield from ((str(ip_address(address)), owner) for address in addresses)

    def _nodes(self) -> Iterator[DescribedParty]:
        numbers = iter(node_range())
        for item in self.description.nodes:
            labels = node(f"{key}={value}" for key, value in item.labels.items())
            if labels and labels not in self._labels:
                self._labels[labels] = Identity(next(numbers))
            yield DescribedParty(item.name, self._labels[labels] if labels else Identity(Reserved.REMOTE_NODE))

    def _join(self, identity: Identity, addresses: Iterable[str], ports: frozenset[ContainerPort]) -> None:
        held, named = self._members.setdefault(identity, (set(), set()))
        held.update(addresses)
        named.update(ports)

    def _facts(self) -> Iterator[IdentityPut | EndpointsChanged]:
        for labels, identity in self._labels.items():
            yield IdentityPut(identity, labels)
        for identity, (addresses, ports) in self._members.items():
            yield EndpointsChanged(identity, frozenset(addresses), frozenset(ports))
        for prefix, number in self._prefixes.items():
            yield IdentityPut(Identity(number), labels_of_prefix(prefix, dual_stack=self.description.dual_stack))


def build_cluster(description: Description, *, source: str = "", more_policies: str = "") -> DescribedCluster:
    """Read the policies of a description, and those of a text beside it.

    Raises:
        BadPolicy: A policy is wrong.
        BadDescription: The description contradicts itself.
    """
    texts = [text for text in (description.policies_text, more_policies) if text.strip()]
    parsed = parse_policies(
        "\n---\n".join(texts),
        source=source,
        cluster=description.cluster,
        allow_unenforced=description.allow_unenforced,
    )
    names = [f"{pod.namespace}/{pod.name}" for pod in description.pods]
    for name in names:
        if names.count(name) > 1:
            raise BadDescription(source, f"the pod {name} comes twice")
    try:
        return DescribedCluster(description, parsed)
    except ValueError as error:  # labels and addresses
        raise BadDescription(source, str(error)) from error


def _named(ports: Iterable[DescribedPort]) -> frozenset[ContainerPort]:
    return frozenset(ContainerPort(item.name, TRANSPORTS[item.protocol], item.port) for item in ports)


def _prefixes(policies: Iterable[Policy]) -> set[Prefix]:
    return {prefix for policy in policies for prefix in policy.prefixes if prefix.prefixlen}


def _sorted(prefixes: Iterable[Prefix]) -> list[Prefix]:
    return sorted(prefixes, key=lambda prefix: (prefix.version, int(prefix.network_address), prefix.prefixlen))
