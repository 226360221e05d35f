"""Ends of recorded flows as parties that policies can be asked about."""

from dataclasses import replace
from ipaddress import ip_network

from cilia.contracts.flows import RecordedPeer
from cilia.contracts.ids import Identity
from cilia.contracts.labels import parse_labels
from cilia.contracts.protocols import TRANSPORTS
from cilia.policy.engine.engine import INIT, Engine
from cilia.policy.engine.rules import RESERVED
from cilia.policy.engine.selectors import ContainerPort, view_peer
from cilia.policy.explain.parties import ENTITIES, NOT_ALLOCATED, Party, party_of_address
from cilia.policy.observed.flows import name_of
from cilia.policy.observed.record import BadFlows


class RecordedParties:
    """Parties of recorded flows under one set of policies, each made once.

    An address belongs to the longest prefix that these policies name, so the parties of one set are
    of no use for another.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[tuple[object, ...], Party] = {}

    def find(self, end: RecordedPeer) -> Party:
        """Return the party that an end of a recorded flow stands for.

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

    def _make(self, end: RecordedPeer) -> Party:
        labels = parse_labels(end.labels)
        reserved = next((label.key for label in labels if label.source == RESERVED), "")
        if end.address and (not reserved or reserved.startswith("world")):
            return party_of_address(self._engine, ip_network(end.address))
        identity = ENTITIES.get(reserved, NOT_ALLOCATED) if len(labels) == 1 else NOT_ALLOCATED
        ports = frozenset(
            ContainerPort(name, TRANSPORTS[protocol.upper()], port)
            for name, protocol, port in end.ports
            if protocol.upper() in TRANSPORTS
        )
        peer = view_peer(Identity(identity), labels, ports=ports)
        if end.prefixes:
            peer = replace(peer, prefixes=tuple(map(ip_network, end.prefixes)))
        return Party(name_of(end), peer, is_subject=not reserved or identity == INIT)
