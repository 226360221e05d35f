"""Least-privilege policies out of recorded flows: what was allowed stays allowed, and nothing else
is.

One policy for each set of workloads that the same meaningful labels select. Labels that differ
between copies or versions of a workload are left out, unless two workloads that were treated
differently can't be told apart otherwise.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import collapse_addresses, ip_network
from typing import Any, Final

from cilia.contracts.flows import PolicyVerdict, RecordedPeer
from cilia.contracts.labels import CLUSTER, NAMED_PORT, NAMESPACE, NAMESPACE_LABELS, Label, parse_labels
from cilia.contracts.protocols import TRANSPORTS, IpProtocol, protocol_name
from cilia.policy.engine.rules import RESERVED, Prefix
from cilia.policy.explain.packet import Packet
from cilia.policy.language.ports import PORTLESS
from cilia.policy.observed.flows import ObservedFlow

COPY_LABELS: Final = frozenset(
    {
        "pod-template-hash",
        "pod-template-generation",
        "controller-revision-hash",
        "controller-uid",
        "job-name",
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-name",
        "batch.kubernetes.io/job-completion-index",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
        "app.kubernetes.io/version",
        "helm.sh/chart",
    }
)
"""Keys of labels that tell copies or versions of one workload apart."""
WORLD_ENTITIES: Final = ("world", "world-ipv4", "world-ipv6")
_NO_NAME_CHARACTERS: Final = re.compile(r"[^a-z0-9]+")

Json = dict[str, Any]
Selection = tuple[str, tuple[tuple[str, str], ...]]
"""Namespace, and the labels that select in it, by key as policies write it."""
PeerKey = tuple[str, Any]
"""``Endpoints``, ``Entities`` or ``CIDR``, and which."""


@dataclass(frozen=True, slots=True)
class WorkloadFilter:
    """Workloads for which policies are wanted; empty fields match all."""

    namespace: str = ""
    workload: str = ""
    """``namespace/name``"""
    labels: frozenset[Label] = frozenset()

    def admits(self, end: RecordedPeer) -> bool:
        """Tell whether an end is such a workload."""
        return (
            is_workload(end)
            and self.namespace in ("", _namespace(end))
            and self.workload in ("", end.workload)
            and self.labels <= parse_labels(end.labels)
        )


@dataclass(slots=True)
class WorkloadTraffic:
    """Packets that one set of workloads received and sent, by peer."""

    ingress: dict[PeerKey, set[Packet]] = field(default_factory=dict)
    egress: dict[PeerKey, set[Packet]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)


def is_workload(end: RecordedPeer) -> bool:
    """Tell whether an end is a pod in a namespace."""
    return not end.address and bool(_namespace(end)) and not _reserved(end)


def propose(
    flows: Iterable[ObservedFlow], wanted: WorkloadFilter, *, max_prefixes: int, every_label: bool = False
) -> list[Json]:
    """Return policies that allow what was allowed to and from the workloads.

    Args:
        max_prefixes: Prefixes outside of the cluster that a peer's list may have; more become an
            entity.
        every_label: Select by all labels, also by those that only tell copies apart.
    """
    traffic_of: dict[Selection, WorkloadTraffic] = {}

    def record(end: RecordedPeer, peer: RecordedPeer, packet: Packet, egress: bool) -> None:
        traffic = traffic_of.setdefault(_selection_of(end, every_label), WorkloadTraffic())
        traffic.names.add(end.workload.rpartition("/")[2])
        to_node = not egress and _reserved(peer) == "host"  # a node always reaches its pods
        if not to_node and can_express(packet):
            peers = traffic.egress if egress else traffic.ingress
            peers.setdefault(_peer_key(peer, every_label), set()).add(packet)

    for flow in flows:
        if flow.verdict is not PolicyVerdict.ALLOWED:
            continue
        for end, peer, egress in ((flow.source, flow.destination, True), (flow.destination, flow.source, False)):
            if wanted.admits(end):
                record(end, peer, flow.packet, egress)
    names = _name_policies(traffic_of)
    return [
        _policy(selection, traffic_of[selection], names[selection], max_prefixes) for selection in sorted(traffic_of)
    ]


def can_express(packet: Packet) -> bool:
    """Tell whether a rule can name the port: a port or type 0 means every one, and not all
    protocols have a name.
    """
    name = protocol_name(packet.protocol)
    if name in TRANSPORTS or packet.protocol in (IpProtocol.ICMP, IpProtocol.ICMPV6):
        return packet.port > 0
    return packet.protocol in PORTLESS.values()


def _policy(selection: Selection, traffic: WorkloadTraffic, name: str, max_prefixes: int) -> Json:
    namespace, labels = selection
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "endpointSelector": {"matchLabels": dict(labels)} if labels else {},
            "ingress": list(_rules(traffic.ingress, "from", namespace, max_prefixes)) or [{}],
            "egress": list(_rules(traffic.egress, "to", namespace, max_prefixes)) or [{}],
        },
    }


def _rules(peers: Mapping[PeerKey, set[Packet]], field: str, namespace: str, max_prefixes: int) -> Iterator[Json]:
    """Yield rules; peers of one kind with the same ports share one."""
    peers_by_packets: dict[tuple[str, tuple[Packet, ...]], list[Any]] = {}
    for (kind, peer), seen in peers.items():
        peers_by_packets.setdefault((kind, tuple(sorted(seen, key=_sort_key))), []).append(peer)
    for (kind, packets), members in sorted(
        peers_by_packets.items(), key=lambda item: (item[0][0] != "Endpoints", str(item))
    ):
        named = _name_peers(kind, members, namespace, max_prefixes)
        for ports in _ports(packets):
            yield {field + kind_: values for kind_, values in named.items()} | ports


def _name_peers(kind: str, members: list[Any], namespace: str, max_prefixes: int) -> dict[str, list[Any]]:
    match kind:
        case "Endpoints":
            return {kind: [_endpoint_selector(selection, namespace) for selection in sorted(members)]}
        case "CIDR":
            prefixes = collapse(members)
            return {"Entities": ["world"]} if len(prefixes) > max_prefixes else {kind: list(map(str, prefixes))}
        case _:
            return {kind: sorted(members)}


def collapse(addresses: Iterable[str]) -> list[Prefix]:
    """Return the fewest prefixes that hold exactly these addresses."""
    prefixes = [ip_network(address) for address in addresses]
    found: list[Prefix] = []
    for version in (4, 6):
        found += collapse_addresses([prefix for prefix in prefixes if prefix.version == version])  # type: ignore[type-var]
    return found


def _endpoint_selector(selection: Selection, namespace: str) -> Json:
    target, labels = selection
    wanted = dict(labels)
    if target != namespace or not labels:
        wanted[f"k8s:{NAMESPACE}"] = target
    return {"matchLabels": wanted}


def _ports(packets: Sequence[Packet]) -> Iterator[Json]:
    """Yield the ports of a rule: transports, and ICMP, which stands in a rule of its own."""
    transports = [
        {"port": str(packet.port if name in TRANSPORTS else 0), "protocol": name}
        for packet in packets
        if (name := _port_protocol(packet)) is not None
    ]
    if transports:
        yield {"toPorts": [{"ports": transports[at : at + 40]} for at in range(0, len(transports), 40)]}
    types = [
        {"family": "IPv4" if packet.protocol == IpProtocol.ICMP else "IPv6", "type": packet.port}
        for packet in packets
        if packet.protocol in (IpProtocol.ICMP, IpProtocol.ICMPV6)
    ]
    if types:
        yield {"icmps": [{"fields": types[at : at + 40]} for at in range(0, len(types), 40)]}


def _port_protocol(packet: Packet) -> str | None:
    name = protocol_name(packet.protocol)
    portless = next((each for each, number in PORTLESS.items() if number == packet.protocol), None)
    return name if name in TRANSPORTS else portless


def _sort_key(packet: Packet) -> tuple[int, int]:
    return packet.protocol, packet.port


def _peer_key(end: RecordedPeer, every_label: bool) -> PeerKey:
    if is_workload(end):
        return "Endpoints", _selection_of(end, every_label)
    if end.address and _reserved(end) in ("", *WORLD_ENTITIES):
        return "CIDR", str(ip_network(end.address))
    return "Entities", _reserved(end)


def _selection_of(end: RecordedPeer, every_label: bool) -> Selection:
    labels = {
        label.key if label.source == "k8s" else f"{label.source}:{label.key}": label.value
        for label in parse_labels(end.labels)
        if label.source != NAMED_PORT
        and label.key not in (NAMESPACE, CLUSTER)
        and not label.key.startswith(NAMESPACE_LABELS)
        and (every_label or label.key not in COPY_LABELS)
    }
    return _namespace(end), tuple(sorted(labels.items()))


def _namespace(end: RecordedPeer) -> str:
    prefix = f"k8s:{NAMESPACE}="
    return next((label.removeprefix(prefix) for label in end.labels if label.startswith(prefix)), "")


def _reserved(end: RecordedPeer) -> str:
    prefix = f"{RESERVED}:"
    return next((label.removeprefix(prefix) for label in end.labels if label.startswith(prefix)), "")


def _name_policies(traffic_of: Mapping[Selection, WorkloadTraffic]) -> dict[Selection, str]:
    taken: set[tuple[str, str]] = set()
    names = {}
    for selection in sorted(traffic_of):
        base = (
            _NO_NAME_CHARACTERS.sub("-", min(traffic_of[selection].names, default="").lower()).strip("-")[:200]
            or "workload"
        )
        name, number = base, 1
        while (selection[0], name) in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add((selection[0], name))
        names[selection] = name
    return names
