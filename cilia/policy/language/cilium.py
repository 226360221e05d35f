"""CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy (cilium.io/v2)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cilia.policy.engine.rules import RESERVED, Ports, Rule, Selector, Spec, split_names
from cilia.policy.language import layer7
from cilia.policy.language.addresses import read_cidr_set, read_prefix, select_prefix
from cilia.policy.language.documents import Field, Mapping, path_in_object
from cilia.policy.language.entities import read_entities
from cilia.policy.language.ports import cilium_ports, icmp_types
from cilia.policy.language.selectors import cilium_key, read_selector, read_subject, scope_peer, select_nodes

SECTIONS: Final = ("ingress", "ingressDeny", "egress", "egressDeny")
_PEER_KINDS: Final = ("Endpoints", "CIDR", "CIDRSet", "Entities", "Groups", "Nodes", "Services", "FQDNs")
_EGRESS_ONLY: Final = ("Services", "FQDNs")
_UNENFORCED_PEERS: Final = {
    "Groups": layer7.check_group,
    "Services": layer7.check_service,
    "FQDNs": layer7.check_fqdn,
}


@dataclass(frozen=True, slots=True)
class Scope:
    """Namespace and cluster of a policy; limits peers that name none of their own."""

    namespace: str
    cluster: str
    subject_is_init: bool = False


def read_specs(body: Mapping, namespace: str, cluster: str) -> tuple[Spec, ...]:
    """Read ``spec`` and ``specs`` of an object."""
    found = [item for item in (body.get("spec"),) if item is not None]
    specs = body.get("specs")
    found += specs.items() if specs is not None else []
    if not found:
        body.at.refuse("the object has neither spec nor specs")
    return tuple(spec for at in found for spec in _spec(at, namespace, cluster))


def _spec(at: Field, namespace: str, cluster: str) -> tuple[Spec, ...]:
    body = at.mapping().only(
        "endpointSelector", "nodeSelector", *SECTIONS, "enableDefaultDeny", "labels", "description", "log"
    )
    _check_texts(body)
    subject = _subject(body, namespace)
    is_init = subject is not None and any(
        (item.source, item.key) == (RESERVED, "init") for item in subject.requirements
    )
    scope = Scope(namespace, cluster, is_init)
    present = {name: items for name in SECTIONS if (items := _section(body, name))}
    if not present:
        at.refuse(f"needs at least one rule in {', '.join(SECTIONS)}")
    rules = tuple(
        rule for name, items in present.items() for item in items for rule in split_names(_rule(item, name, scope))
    )
    ingress, egress = _isolation(body)
    if subject is None:
        return ()
    return (
        Spec(
            subject,
            rules,
            isolates_ingress=ingress and not present.keys().isdisjoint(("ingress", "ingressDeny")),
            isolates_egress=egress and not present.keys().isdisjoint(("egress", "egressDeny")),
        ),
    )


def _section(body: Mapping, name: str) -> list[Field]:
    section = body.get(name)
    return section.items() if section is not None else []


def _check_texts(body: Mapping) -> None:
    if (description := body.get("description")) is not None:
        description.text()
    if (log := body.get("log")) is not None:
        log.mapping().only("value").require("value").text()
    labels = body.get("labels")
    for item in labels.items() if labels is not None else ():
        label = item.mapping().only("key", "value", "source", "cidr")
        label.require("key").text()


def _subject(body: Mapping, namespace: str) -> Selector | None:
    """Return who the policy is for; None if that is the nodes, which have no endpoint yet."""
    endpoints, nodes = body.get("endpointSelector"), body.get("nodeSelector")
    if nodes is None:
        return read_subject(body.require("endpointSelector"), cilium_key, namespace)
    if namespace:
        nodes.refuse("only a CiliumClusterwideNetworkPolicy selects nodes")
    if endpoints is not None:
        nodes.refuse("stands beside endpointSelector; a rule is for endpoints or for nodes")
    read_selector(nodes, cilium_key)
    nodes.mark_unenforced()
    return None


def _isolation(body: Mapping) -> tuple[bool, bool]:
    option = body.get("enableDefaultDeny")
    if option is None:
        return True, True
    fields = option.mapping().only("ingress", "egress")
    ingress, egress = fields.get("ingress"), fields.get("egress")
    return ingress is None or ingress.boolean(), egress is None or egress.boolean()


def _rule(at: Field, section: str, scope: Scope) -> Rule:
    egress, deny = section.startswith("egress"), section.endswith("Deny")
    prefix = "to" if egress else "from"
    kinds = [kind for kind in _PEER_KINDS if egress or kind not in _EGRESS_ONLY]
    if deny:
        kinds = [kind for kind in kinds if kind != "FQDNs"]
    removed = f"{prefix}Requires"
    body = at.mapping().only(
        *(prefix + kind for kind in kinds), removed, "toPorts", "icmps", *(() if deny else ("authentication",))
    )
    if (requires := body.get(removed)) is not None and requires.items():
        requires.refuse("was removed from the language; name the labels in the peers' selectors")
    marked = len(at.document.unenforced)
    present = [item for kind in kinds if (item := body.get(prefix + kind)) is not None]
    peers = _peers(present, prefix, scope)
    ports = _ports(body, egress=egress, deny=deny)
    if (authentication := body.get("authentication")) is not None:
        layer7.check_authentication(authentication)
    if len(at.document.unenforced) > marked:
        peers = None if deny else ()  # a rule that can't be enforced yet opens nothing
    elif not present and ports is None:
        peers = ()  # an empty rule isolates and says nothing else
    return Rule(egress, deny, peers, ports, path=path_in_object(at))


def _peers(present: list[Field], prefix: str, scope: Scope) -> tuple[Selector, ...] | None:
    filled = [item for item in present if item.items()]
    if len(filled) > 1:
        first, second = (item.path.rpartition(".")[2] for item in filled[:2])
        filled[1].refuse(f"can't be combined with {first} in one rule; write {second} as a rule of its own")
    found: list[Selector] = []
    for item in filled:
        selectors = _READERS[item.path.rpartition(f".{prefix}")[2]](item, scope)
        if selectors is None:
            return () if len(filled) < len(present) else None
        found += selectors
    if not present:
        return None
    return () if len(filled) < len(present) else tuple(dict.fromkeys(found))


def _endpoints(at: Field, scope: Scope) -> list[Selector]:
    return [
        scope_peer(
            read_selector(item, cilium_key),
            namespace=scope.namespace,
            cluster=scope.cluster,
            subject_is_init=scope.subject_is_init,
        )
        for item in at.items()
    ]


def _entities(at: Field, scope: Scope) -> list[Selector] | None:
    selectors = read_entities(at, scope.cluster)
    return None if selectors is None else list(selectors)


def _cidrs(at: Field, _: Scope) -> list[Selector]:
    return [select_prefix(read_prefix(item)) for item in at.items()]


def _cidr_sets(at: Field, _: Scope) -> list[Selector]:
    return [read_cidr_set(item) for item in at.items()]


def _nodes(at: Field, _: Scope) -> list[Selector]:
    return [select_nodes(item) for item in at.items()]


def _unenforced(check: Callable[[Field], None]) -> "PeerReader":
    def read(at: Field, _: Scope) -> list[Selector]:
        for item in at.items():
            check(item)
        at.mark_unenforced()
        return []

    return read


PeerReader = Callable[[Field, Scope], list[Selector] | None]
_READERS: Final[dict[str, PeerReader]] = {
    "Endpoints": _endpoints,
    "Entities": _entities,
    "CIDR": _cidrs,
    "CIDRSet": _cidr_sets,
    "Nodes": _nodes,
    **{kind: _unenforced(check) for kind, check in _UNENFORCED_PEERS.items()},
}


def _ports(body: Mapping, *, egress: bool, deny: bool) -> Ports | None:
    at, icmps = body.get("toPorts"), body.get("icmps")
    if icmps is not None and icmps.items() and at is not None and at.items():
        icmps.refuse("can't stand beside toPorts; write a rule of its own")
    found: list[Ports] = []
    for item in at.items() if at is not None else ():
        found.append(_port_rule(item, egress=egress, deny=deny))
    for item in icmps.items() if icmps is not None else ():
        fields = item.mapping().only("fields").get("fields")
        found.append(icmp_types(fields) if fields is not None else ())
    ports = tuple(dict.fromkeys(port for some in found for port in some))
    return ports or None


def _port_rule(at: Field, *, egress: bool, deny: bool) -> Ports:
    body = at.mapping().only("ports", *(() if deny else layer7.FIELDS))
    ports = body.get("ports")
    numbers = cilium_ports(ports) if ports is not None else ()
    if not deny:
        layer7.check_port_rule(body, egress=egress)
    return numbers
