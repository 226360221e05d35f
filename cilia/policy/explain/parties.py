"""The ends of a flow, as selectors see them: pods, identities, entities, addresses, and pods that
might exist.
"""

from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from typing import Final, NamedTuple, Protocol

from cilia.contracts.explanations import PeerSelector
from cilia.contracts.identities import Reserved
from cilia.contracts.ids import Identity
from cilia.contracts.labels import NAMESPACE, NAMESPACE_LABELS, BadLabel, Label, parse_labels, workload
from cilia.policy.engine.engine import Engine
from cilia.policy.engine.reserved import labels_of_prefix, world_of
from cilia.policy.engine.rules import Prefix
from cilia.policy.engine.selectors import Peer, view_peer
from cilia.policy.errors import PolicyError

ENTITIES: Final = {item.label.removeprefix("reserved:"): Identity(item) for item in Reserved}
NOT_ALLOCATED: Final = Identity(0)


class Owner(NamedTuple):
    """Pod or node of the cluster that somebody asked for.

    Attributes:
        name: ``namespace/name`` of a pod; a node's name.
        node: Name of the node that it is, or where it lives; empty: not known.
    """

    name: str
    identity: Identity
    node: str = ""
    is_node: bool = False


class Directory(Protocol):
    """Lookup of who lives in the cluster."""

    def pod(self, name: str) -> Owner | None:
        """Return a pod by ``namespace/name``."""
        ...

    def at(self, address: str) -> Owner | None:
        """Return the pod or the node that has an address."""
        ...


class UnknownParty(PolicyError):
    """A name means nobody in this cluster."""

    def __init__(self, name: str, reason: str = "is no pod, identity, entity or address of this cluster") -> None:
        super().__init__(f"{name!r} {reason}")
        self.name = name


@dataclass(frozen=True, slots=True)
class Party:
    """One end of a flow.

    Attributes:
        is_subject: Policies are enforced for it.
        address: Of an end outside of the cluster, if one is known.
        owner: The pod or the node, where one of the cluster is meant.
    """

    name: str
    peer: Peer
    is_subject: bool
    address: Prefix | None = None
    owner: Owner | None = None

    @property
    def namespace(self) -> str:
        """The workload's namespace; empty for everybody else."""
        return self.peer.labels.get(("k8s", NAMESPACE), "")

    def number(self, port: str, protocol: int) -> int | None:
        """Return the number of a port that may go by a name; None if no pod, or more than one port,
        has the name.
        """
        if port.isdigit():
            return int(port)
        found = {item.port for item in self.peer.ports if (item.name, item.protocol) == (port, protocol)}
        return found.pop() if len(found) == 1 else None


def find_parties(
    engine: Engine, source: PeerSelector, destination: PeerSelector, directory: Directory
) -> tuple[Party, Party]:
    """Find both ends of a flow. A node is the host to the pods that live there.

    Raises:
        UnknownParty: One is nobody.
    """
    one, other = (find_party(engine, each, directory) for each in (source, destination))
    return _as_seen_by(engine, one, other), _as_seen_by(engine, other, one)


def _as_seen_by(engine: Engine, party: Party, other: Party) -> Party:
    own, its = party.owner, other.owner
    if own is None or its is None or not own.is_node or its.is_node or own.node != its.node:
        return party
    return replace(party_of_identity(engine, Identity(Reserved.HOST), party.name), owner=own)


def find_party(engine: Engine, party: PeerSelector, directory: Directory) -> Party:
    """Find an end of a flow; a node is another node than that of the other end.

    Raises:
        UnknownParty: There is none of this name.
    """
    if party.labels:
        return _imagined(engine, party)
    for name in (party.name, f"{party.namespace}/{party.name}"):
        pod = directory.pod(name)
        if pod is not None:
            return _party_of(engine, pod)
    if party.name.isdigit():
        return party_of_identity(engine, Identity(int(party.name)), party.name)
    if party.name in ENTITIES:
        return party_of_identity(engine, ENTITIES[party.name], party.name)
    try:
        address = ip_address(party.name)
    except ValueError:
        raise UnknownParty(party.name) from None
    owner = directory.at(str(address))
    return party_of_address(engine, ip_network(address)) if owner is None else _party_of(engine, owner)


def _party_of(engine: Engine, owner: Owner) -> Party:
    return replace(party_of_identity(engine, owner.identity, owner.name), owner=owner)


def party_of_identity(engine: Engine, identity: Identity, name: str) -> Party:
    """Return an identity as an end.

    Raises:
        UnknownParty: Nobody has it.
    """
    peer = engine.peer(identity)
    if peer is None:
        raise UnknownParty(name, "has an identity that is not known (yet)")
    return Party(name, peer, identity in engine.subjects)


def party_of_address(engine: Engine, address: Prefix) -> Party:
    """Return an address outside of the cluster, which goes by the longest prefix that policies name
    for it.
    """
    covering = (address.supernet(new_prefix=length) for length in range(address.prefixlen, 0, -1))
    prefix = next((each for each in covering if each in engine.prefixes), address.supernet(new_prefix=0))
    dual_stack = engine.options.dual_stack
    labels = labels_of_prefix(prefix, dual_stack=dual_stack)
    peer = view_peer(world_of(prefix, dual_stack=dual_stack), labels, named=engine.named)
    return Party(str(address.network_address), peer, False, address)


def _imagined(engine: Engine, party: PeerSelector) -> Party:
    """Return what a pod with these labels would be; its namespace has the labels that other pods of
    it show.
    """
    try:
        given = parse_labels(party.labels)
    except BadLabel as error:
        raise UnknownParty(",".join(party.labels), str(error)) from error
    of_namespace = engine.labels_in_namespace(party.namespace)
    known = {key.removeprefix(NAMESPACE_LABELS): value for key, value in of_namespace.items()}
    place = {each for each in workload(party.namespace, {}, known) if (each.source, each.key) not in _keys(given)}
    return Party(
        f"{party.namespace}/{{{','.join(sorted(party.labels))}}}", view_peer(NOT_ALLOCATED, given | place), True
    )


def _keys(labels: frozenset[Label]) -> set[tuple[str, str]]:
    return {(label.source, label.key) for label in labels}
