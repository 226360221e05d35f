"""Differences between a flow and what a rule wants, in the words of the rule."""

from ipaddress import ip_network

import pytest

from cilia.contracts.explanations import Criterion, MismatchKind
from cilia.contracts.identities import Reserved
from cilia.contracts.ids import Identity
from cilia.contracts.labels import node, parse_labels, workload
from cilia.policy.engine.mapstate import NameLookup
from cilia.policy.engine.rules import (
    CIDR,
    RESERVED,
    Block,
    NamedPort,
    Operator,
    PortRange,
    Requirement,
    Rule,
    Selector,
    parse_prefix,
)
from cilia.policy.engine.selectors import selects, view_peer
from cilia.policy.explain.mismatch import differ_from_peers, differ_from_ports, differ_from_selector
from cilia.policy.explain.packet import Packet
from cilia.policy.explain.parties import Party

TCP, UDP, ICMP = 6, 17, 1
WEB = Party(
    "shop/web",
    view_peer(
        Identity(300),
        workload("shop", {"app": "web"}, {"team": "a"}),
        addresses=map(ip_network, ("10.0.0.7", "fd00::7")),
    ),
    True,
)
WORLD = Party(
    "192.0.2.7",
    view_peer(Identity(Reserved.WORLD_IPV4), parse_labels(["reserved:world-ipv4"])),
    False,
    ip_network("192.0.2.7"),
)
NODE = Party("n1", view_peer(Identity(6), node(["zone=a"])), False)


def wants(key: str, operator: Operator, *values: str, source: str = "k8s") -> Selector:
    return Selector((Requirement(source, key, operator, values),))


@pytest.mark.parametrize(
    ("selector", "party", "kind", "wanted", "found"),
    [
        (wants("app", Operator.IN, "db"), WEB, MismatchKind.LABEL, "app=db", "app=web"),
        (wants("app", Operator.IN, "a", "b"), WEB, MismatchKind.LABEL, "app in (a, b)", "app=web"),
        (wants("app", Operator.NOT_IN, "web"), WEB, MismatchKind.LABEL, "app not in (web)", "app=web"),
        (wants("tier", Operator.EXISTS), WEB, MismatchKind.LABEL, "any tier", "no tier"),
        (wants("app", Operator.ABSENT), WEB, MismatchKind.LABEL, "no app", "app=web"),
        (wants("zone", Operator.EXISTS, source="node"), WEB, MismatchKind.LABEL, "any node:zone", "no node:zone"),
        (
            wants("io.kubernetes.pod.namespace", Operator.IN, "lab"),
            WEB,
            MismatchKind.NAMESPACE,
            "namespace=lab",
            "namespace=shop",
        ),
        (
            wants("io.cilium.k8s.namespace.labels.team", Operator.IN, "b"),
            WEB,
            MismatchKind.NAMESPACE,
            "namespace's label team=b",
            "namespace's label team=a",
        ),
        (wants("host", Operator.EXISTS, source=RESERVED), WORLD, MismatchKind.ENTITY, "host", "world-ipv4"),
        (
            wants("host", Operator.EXISTS, source=RESERVED),
            WEB,
            MismatchKind.ENTITY,
            "host",
            "a workload of namespace shop",
        ),
        (
            wants("world-ipv4", Operator.ABSENT, source=RESERVED),
            WORLD,
            MismatchKind.ENTITY,
            "not world-ipv4",
            "world-ipv4",
        ),
        (wants("10.0.0.0/8", Operator.EXISTS, source=CIDR), WORLD, MismatchKind.CIDR, "10.0.0.0/8", "192.0.2.7"),
        (
            Selector(block=Block(parse_prefix("10.9.0.0/16"))),
            WEB,
            MismatchKind.CIDR,
            "10.9.0.0/16",
            "10.0.0.7, fd00::7",
        ),
        (
            wants("io.kubernetes.pod.namespace", Operator.EXISTS),
            NODE,
            MismatchKind.NAMESPACE,
            "any namespace",
            "remote-node",
        ),
    ],
)
def test_what_a_selector_wants_is_set_beside_what_there_is(
    selector: Selector, party: Party, kind: MismatchKind, wanted: str, found: str
) -> None:
    assert not selects(selector, party.peer)
    (each,) = differ_from_selector(selector, party, Criterion.PEER)
    assert (each.kind, each.wanted) == (kind, wanted)
    assert each.found.replace("/32", "").replace("/128", "") == found


def test_a_selector_that_selects_has_no_mismatch_also_by_the_addresses_of_one_family() -> None:
    for selector in (wants("app", Operator.IN, "web"), Selector(block=Block(parse_prefix("10.0.0.0/8")))):
        assert selects(selector, WEB.peer)
        assert differ_from_selector(selector, WEB, Criterion.PEER) == ()


def test_an_address_in_a_hole_of_a_block_is_told_from_one_outside() -> None:
    block = Block(parse_prefix("10.0.0.0/8"), (parse_prefix("10.0.0.0/24"),))
    (found,) = differ_from_selector(Selector(block=block), WEB, Criterion.PEER)
    assert (found.kind, found.wanted) == (MismatchKind.EXCEPT, "an address outside of 10.0.0.0/24")


def rule(*ports: PortRange | NamedPort, peers: tuple[Selector, ...] | None = None, deny: bool = False) -> Rule:
    return Rule(False, deny, peers, ports or None)


def test_the_nearest_of_a_rules_peers_is_told_and_a_rule_without_one_says_so() -> None:
    both = Selector((*wants("app", Operator.IN, "db").requirements, *wants("tier", Operator.EXISTS).requirements))
    near = wants("app", Operator.IN, "db")
    assert [each.wanted for each in differ_from_peers(rule(peers=(both, near)), WEB)] == ["app=db"]
    assert differ_from_peers(rule(peers=None), WEB) == ()
    (nobody,) = differ_from_peers(rule(peers=()), WEB)
    assert (nobody.kind, nobody.found) == (MismatchKind.NOBODY, "shop/web")


def names(*numbers: int) -> NameLookup:
    return lambda port: numbers


@pytest.mark.parametrize(
    ("ports", "packet", "wanted"),
    [
        ((PortRange(TCP, 80, 80), PortRange(TCP, 443, 443)), Packet(TCP, 81), "80/TCP"),
        ((PortRange(TCP, 80, 80), PortRange(TCP, 443, 443)), Packet(TCP, 440), "443/TCP"),
        ((PortRange(TCP, 8000, 8999),), Packet(TCP, 80), "8000-8999/TCP"),
        ((PortRange(UDP, 53, 53), PortRange(TCP, 9, 9)), Packet(TCP, 53), "9/TCP"),
        ((PortRange(UDP),), Packet(TCP, 53), "any/UDP"),
        ((NamedPort(TCP, "http"),), Packet(TCP, 80), "http/TCP (8080)"),
    ],
)
def test_the_nearest_of_a_rules_ports_is_told(
    ports: tuple[PortRange | NamedPort, ...], packet: Packet, wanted: str
) -> None:
    (found,) = differ_from_ports(rule(*ports), packet, names(8080))
    assert (found.wanted, found.criterion) == (wanted, Criterion.PORT)


@pytest.mark.parametrize(("numbers", "found"), [((), "nobody names it"), ((80, 81), "names 80, 81")])
def test_a_name_that_nobody_or_that_two_numbers_bear_opens_nothing(numbers: tuple[int, ...], found: str) -> None:
    (mismatch,) = differ_from_ports(rule(NamedPort(TCP, "http")), Packet(TCP, 80), names(*numbers))
    assert (mismatch.kind, mismatch.wanted, mismatch.found) == (MismatchKind.PORT_NAME, "http/TCP", found)


def test_ports_that_match_and_rules_without_ports_have_no_mismatch() -> None:
    assert differ_from_ports(rule(), Packet(TCP, 1), names()) == ()
    assert differ_from_ports(rule(PortRange(TCP, 80, 90)), Packet(TCP, 85), names()) == ()
    assert differ_from_ports(rule(NamedPort(TCP, "http")), Packet(TCP, 80), names(80)) == ()
