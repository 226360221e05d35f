"""Aggregation of events into distinct flows: ends, port, verdict and policy, with counts. Pure.

Events come by the million, distinct flows by the thousand: what is new goes to the recorder at
once, what repeats only adds up, and goes along now and then. The memory is bounded; what has not
been seen for longest makes room, flows with outsiders first, since a scan from outside must not
push out what the cluster's own workloads do.
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cilia.abi.enums import DropReason, EventKind
from cilia.abi.structs import Event
from cilia.contracts.direction import Direction
from cilia.contracts.flow_events import Flow
from cilia.contracts.flows import DistinctFlow, FlowPeer, PolicyVerdict
from cilia.contracts.identities import Reserved, is_remote_node, is_reserved
from cilia.contracts.ids import Identity
from cilia.contracts.protocols import IpProtocol
from cilia.metrics import counter

BY_POLICY: Final = (DropReason.POLICY_DENIED, DropReason.DENIED_BY_RULE)
"""Drops that are verdicts of policy; the others are none of its business."""
LAST_POD: Final = (1 << 24) - 1
"""Identities above it stand for prefixes."""
WORLD: Final = (Reserved.WORLD, Reserved.WORLD_IPV4, Reserved.WORLD_IPV6)
ECHO_REQUEST: Final[dict[int, int]] = {IpProtocol.ICMP: 8, IpProtocol.ICMPV6: 128}
"""Type of an echo request, by protocol: an answer belongs to the flow of its request."""
_RANDOM: Final = "bcdfghjklmnpqrstvwxz2456789"
_COPY: Final = re.compile(rf"(-[{_RANDOM}]{{8,10}})?-[{_RANDOM}]{{5}}$|-\d+$")
"""Endings that Kubernetes' controllers give to the names of pods."""

NamedPorts = tuple[tuple[str, str, int], ...]
PortsOf = Callable[[int, bytes], NamedPorts]
"""Lookup of a pod's named ports, by local endpoint's id or by address."""
Key = tuple[FlowPeer, FlowPeer, int, int, PolicyVerdict, bool, str]


@dataclass(slots=True)
class DistinctCounters:
    """Counts of distinct flows that made room."""

    evicted: int = counter("distinct flows that made room for others in the agent")
    lost: int = counter("distinct flows that made room before the recorder had heard of them")


@dataclass(slots=True)
class Row:
    """A distinct flow.

    ``pending``: verdicts that the recorder hasn't heard of; ``is_known``: it has heard of others.
    """

    ports: NamedPorts
    pending: int
    first_ns: int
    last_ns: int
    is_known: bool = False


class DistinctFlows:
    """The node's distinct flows, at most ``limit``."""

    def __init__(self, limit: int, ports_of: PortsOf) -> None:
        self._limit = limit
        self._ports_of = ports_of
        self._inside: OrderedDict[Key, Row] = OrderedDict()
        self._outside: OrderedDict[Key, Row] = OrderedDict()
        self._fresh = 0
        self._lost = 0
        self.counters = DistinctCounters()

    def __len__(self) -> int:
        return len(self._inside) + len(self._outside)

    @property
    def has_fresh(self) -> bool:
        """Tell whether there is one that the recorder has never heard of."""
        return self._fresh > 0

    def add(self, event: Event, flow: Flow) -> None:
        """Count an event, which is also given as a flow with names."""
        key = key_of(event, flow)
        if key is None:
            return
        rows = self._outside if key[0].address or key[1].address else self._inside
        row = rows.get(key)
        if row is None:
            destination = 0 if event.is_reply else 1
            address = event.source if event.is_reply else event.destination
            self._make_room()
            rows[key] = Row(self._ports_of(event.endpoint[destination], address), 1, flow.time_ns, flow.time_ns)
            self._fresh += 1
            return
        row.pending += 1
        row.last_ns = flow.time_ns
        rows.move_to_end(key)

    def take_unreported(self, most: int, *, everything: bool) -> tuple[tuple[DistinctFlow, ...], int]:
        """Return what the recorder hasn't heard of, and how many distinct flows were lost before;
        it counts as reported.

        Args:
            most: So many flows at a time.
            everything: What it has heard of before as well, if it was seen again.
        """
        taken: list[DistinctFlow] = []
        for rows in (self._inside, self._outside):
            for key, row in rows.items():
                if len(taken) == most:
                    break
                if row.pending and (everything or not row.is_known):
                    taken.append(_seen(key, row))
                    self._fresh -= not row.is_known
                    row.pending, row.is_known = 0, True
        lost, self._lost = self._lost, 0
        return tuple(taken), lost

    def _make_room(self) -> None:
        if len(self) < self._limit:
            return
        _, row = (self._outside or self._inside).popitem(last=False)
        self.counters.evicted += 1
        if row.pending:
            self.counters.lost += 1
            self._lost += 1
        self._fresh -= not row.is_known


def key_of(event: Event, flow: Flow) -> Key | None:
    """Return what makes a flow distinct; None for what is no verdict of policy.

    An answer counts as its question.
    """
    if event.kind == EventKind.DROP:
        if event.reason not in BY_POLICY:
            return None
        verdict = PolicyVerdict.DENIED
    elif event.kind == EventKind.VERDICT:
        verdict = PolicyVerdict.AUDITED if event.audited else PolicyVerdict.ALLOWED
    else:
        return None
    source = _end(flow.source_identity, flow.source_endpoint, flow.source)
    destination = _end(flow.destination_identity, flow.destination_endpoint, flow.destination)
    port = flow.destination_port
    if event.is_reply:
        source, destination = destination, source
        port = ECHO_REQUEST.get(event.protocol, flow.source_port)
    return source, destination, event.protocol, port, verdict, flow.direction is Direction.EGRESS, flow.policy


def workload_name(pod: str) -> str:
    """Return ``namespace/name`` of a pod without the ending that its controller gives each copy."""
    return _COPY.sub("", pod)


def _end(identity: int, pod: str, address: str) -> FlowPeer:
    if is_remote_node(Identity(identity)):
        return FlowPeer(identity, "")
    if identity in WORLD or identity > LAST_POD:
        return FlowPeer(identity, "", address)
    return FlowPeer(identity, "" if is_reserved(Identity(identity)) and not pod else workload_name(pod))


def _seen(key: Key, row: Row) -> DistinctFlow:
    source, destination, protocol, port, verdict, egress, policy = key
    return DistinctFlow(
        source,
        destination,
        protocol,
        port,
        verdict,
        egress,
        policy,
        row.ports,
        row.pending,
        row.first_ns,
        row.last_ns,
    )
