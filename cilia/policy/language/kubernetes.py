"""NetworkPolicy of Kubernetes (networking.k8s.io/v1), by its own specification where Cilium departs
from it.
"""

from cilia.policy.engine.rules import EVERYTHING, NAMESPACED, Rule, Selector, Spec, split_names
from cilia.policy.language.addresses import read_ip_block
from cilia.policy.language.documents import Field, Mapping, path_in_object
from cilia.policy.language.ports import kubernetes_port
from cilia.policy.language.selectors import (
    in_namespace,
    kubernetes_key,
    namespace_key,
    read_selector,
    read_subject,
    require,
)


def read_spec(at: Field, namespace: str) -> Spec:
    """Read ``spec``. Rules of a direction that ``policyTypes`` leaves out have no effect."""
    body = at.mapping().only("podSelector", "policyTypes", "ingress", "egress")
    selector = body.get("podSelector")
    subject = (
        read_subject(selector, kubernetes_key, namespace)
        if selector is not None
        else Selector((in_namespace(namespace),))
    )
    ingress, egress = _types(body)
    rules = [
        *(_rule(item, namespace, egress=False) for item in _items(body, "ingress")),
        *(_rule(item, namespace, egress=True) for item in _items(body, "egress")),
    ]
    return Spec(
        subject,
        tuple(part for rule in rules if (egress if rule.egress else ingress) for part in split_names(rule)),
        isolates_ingress=ingress,
        isolates_egress=egress,
    )


def _items(body: Mapping, name: str) -> list[Field]:
    at = body.get(name)
    return at.items() if at is not None else []


def _types(body: Mapping) -> tuple[bool, bool]:
    """Return whether the policy is for ingress and for egress; without ``policyTypes`` always for
    ingress.
    """
    names = [item.one_of(("Ingress", "Egress")) for item in _items(body, "policyTypes")]
    if not names:
        return True, bool(_items(body, "egress"))
    return "Ingress" in names, "Egress" in names


def _rule(at: Field, namespace: str, *, egress: bool) -> Rule:
    peers_name = "to" if egress else "from"
    body = at.mapping().only(peers_name, "ports")
    ports = tuple(port for item in _items(body, "ports") for port in kubernetes_port(item)) or None
    peers = tuple(dict.fromkeys(_peer(item, namespace) for item in _items(body, peers_name)))
    return Rule(egress, False, peers or None, ports, path=path_in_object(at))


def _peer(at: Field, namespace: str) -> Selector:
    body = at.mapping().only("podSelector", "namespaceSelector", "ipBlock")
    pods, namespaces, block = body.get("podSelector"), body.get("namespaceSelector"), body.get("ipBlock")
    if block is not None:
        if pods is not None or namespaces is not None:
            block.refuse("can't stand beside podSelector or namespaceSelector")
        return read_ip_block(block)
    if pods is None and namespaces is None:
        at.refuse("needs one of podSelector, namespaceSelector and ipBlock")
    selector = read_selector(pods, kubernetes_key) if pods is not None else EVERYTHING
    if namespaces is None:
        return require(selector, in_namespace(namespace))
    return require(selector, NAMESPACED, *read_selector(namespaces, namespace_key).requirements)
