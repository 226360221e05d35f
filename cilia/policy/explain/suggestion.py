"""The smallest policy that allows a flow on one side: for exactly these labels, this peer and this
port.

It opens and closes nothing else: without a default deny of its own, it isolates nobody that it
happens to select.
"""

import re
from typing import Any, Final

import yaml

from cilia.contracts.identities import Reserved, is_reserved
from cilia.contracts.labels import CLUSTER, NAMESPACE, NAMESPACE_LABELS, NODE
from cilia.contracts.protocols import IpProtocol, protocol_name
from cilia.policy.engine.rules import ANY_SOURCE, CIDR, RESERVED
from cilia.policy.explain.packet import Packet
from cilia.policy.explain.parties import NOT_ALLOCATED, Party
from cilia.policy.language.ports import PORTLESS

_WITH_PORTS: Final = ("TCP", "UDP", "SCTP")
_UNNAMED: Final = re.compile(r"[^a-z0-9]+")


def allow_policy(subject: Party, peer: Party, packet: Packet, *, egress: bool) -> str:
    """Return a policy as YAML; empty where the language can't name the flow."""
    direction, peers_field = ("egress", "to") if egress else ("ingress", "from")
    peers = _peers(subject, peer)
    ports = _ports(packet)
    if peers is None or ports is None:
        return ""
    kind, values = peers
    metadata = {"name": _name(direction, peer, packet)}
    if subject.namespace:
        metadata["namespace"] = subject.namespace
    document = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy" if subject.namespace else "CiliumClusterwideNetworkPolicy",
        "metadata": metadata,
        "spec": {
            "endpointSelector": _select(subject),
            "enableDefaultDeny": {direction: False},
            direction: [{peers_field + kind: values, **ports}],
        },
    }
    return str(yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False))


def _peers(subject: Party, peer: Party) -> tuple[str, list[Any]] | None:
    """Return the kind of field for a peer, and its value."""
    if peer.address is not None:
        return "CIDR", [str(peer.address)]
    if peer.peer.identity != NOT_ALLOCATED and is_reserved(peer.peer.identity):
        return "Entities", [Reserved(peer.peer.identity).label.removeprefix("reserved:")]
    if any(source == CIDR for source, _ in peer.peer.labels):
        return "CIDR", [str(peer.peer.prefixes[0])]
    if (RESERVED, "remote-node") in peer.peer.labels:
        own = {key: value for (source, key), value in sorted(peer.peer.labels.items()) if source == NODE}
        return "Nodes", [{"matchLabels": own}]
    if not peer.namespace:
        return None
    selector = _select(peer)
    if peer.namespace != subject.namespace:
        selector.setdefault("matchLabels", {})[f"k8s:{NAMESPACE}"] = peer.namespace
    return "Endpoints", [selector]


def _select(end: Party) -> dict[str, dict[str, str]]:
    labels = {}
    for (source, key), value in sorted(end.peer.labels.items()):
        if source == ANY_SOURCE or key in (NAMESPACE, CLUSTER) or key.startswith(NAMESPACE_LABELS):
            continue
        labels[key if source == "k8s" else f"{source}:{key}"] = value
    return {"matchLabels": labels} if labels else {}


def _ports(packet: Packet) -> dict[str, Any] | None:
    name = protocol_name(packet.protocol)
    if name in _WITH_PORTS:
        return {"toPorts": [{"ports": [{"port": str(packet.port), "protocol": name}]}]} if packet.port else None
    if packet.protocol in (IpProtocol.ICMP, IpProtocol.ICMPV6):
        family = "IPv4" if packet.protocol == IpProtocol.ICMP else "IPv6"
        return {"icmps": [{"fields": [{"family": family, "type": packet.port}]}]} if packet.port else None
    portless = next((each for each, number in PORTLESS.items() if number == packet.protocol), None)
    return {"toPorts": [{"ports": [{"port": "0", "protocol": portless}]}]} if portless else None


def _name(direction: str, peer: Party, packet: Packet) -> str:
    parts = ("allow", peer.name.rpartition("/")[2].lower(), direction, str(packet).lower())
    return "-".join(filter(None, (_UNNAMED.sub("-", part).strip("-") for part in parts)))[:200].rstrip("-")
