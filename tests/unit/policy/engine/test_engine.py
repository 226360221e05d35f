"""The engine on small clusters: empty and absent, modes, cookies, changes of one thing."""

import json
from collections import Counter
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest

from cilia.contracts.ids import Identity
from cilia.contracts.labels import Label, Labels, node, workload
from cilia.contracts.tables import PolicyKey, PolicyObject, policy_cookie
from cilia.policy.engine.engine import Engine
from cilia.policy.engine.events import EndpointsChanged, IdentityPut, IdentityRemoved, ModeSet, PolicyPut, PolicyRemoved
from cilia.policy.engine.mapstate import ANY_PEER
from cilia.policy.engine.options import Mode, Options
from cilia.policy.engine.rules import Block, Policy, PrefixGroup, Selector, cidr_label, parse_prefix
from cilia.policy.engine.selectors import ContainerPort, selects, view_peer
from cilia.policy.engine.verdict import decide
from cilia.policy.language.parse import decode_object, parse_policies

WEB, DB, OTHER = Identity(256), Identity(257), Identity(258)
HOST, WORLD, INIT = Identity(1), Identity(9), Identity(5)
TCP, UDP, SCTP, ICMP = 6, 17, 132, 1


def app(name: str, namespace: str = "x") -> Labels:
    """Return the labels of a pod."""
    return workload(namespace, {"app": name})


def policy(spec: str, name: str = "p", kind: str = "CiliumNetworkPolicy") -> PolicyPut:
    """Return a policy, in flow style, of namespace x if it has one."""
    namespace = ", namespace: x" if kind != "CiliumClusterwideNetworkPolicy" else ""
    api = "networking.k8s.io/v1" if kind == "NetworkPolicy" else "cilium.io/v2"
    text = f"{{apiVersion: {api}, kind: {kind}, metadata: {{name: {name}{namespace}}}, spec: {{{spec}}}}}"
    (parsed,) = parse_policies(text)
    return PolicyPut(parsed.policy)


def engine_with(*events: PolicyPut | EndpointsChanged | ModeSet, options: Options | None = None) -> Engine:
    """Return an engine that knows three pods: web and db in x, other in y."""
    engine = Engine(options)
    engine.apply([IdentityPut(WEB, app("web")), IdentityPut(DB, app("db")), IdentityPut(OTHER, app("other", "y"))])
    engine.apply(events)
    return engine


def allowed(
    engine: Engine, subject: Identity, peer: Identity, protocol: int = TCP, port: int = 80, *, egress: bool = False
) -> bool:
    """Look a flow up."""
    return decide(engine.map_state(subject), peer, egress=egress, protocol=protocol, port=port).allowed


def reach(engine: Engine, protocol: int = TCP, port: int = 80) -> set[Identity]:
    """Return who reaches db."""
    return {peer for peer in (WEB, DB, OTHER, HOST, WORLD) if allowed(engine, DB, peer, protocol, port)}


DB_ONLY = "endpointSelector: {matchLabels: {app: db}}"
EVERYONE = {WEB, DB, OTHER, HOST, WORLD}
MATRIX = [
    ("ingress: [{}]", {HOST}, {HOST}),
    ("ingress: [{toPorts: []}]", {HOST}, {HOST}),
    ("ingress: [{toPorts: [{}]}]", {HOST}, {HOST}),
    ("ingress: [{icmps: []}]", {HOST}, {HOST}),
    ("ingress: [{fromEndpoints: []}]", {HOST}, {HOST}),
    ("ingress: [{fromEndpoints: [], toPorts: [{ports: [{port: '80'}]}]}]", {HOST}, {HOST}),
    ("ingress: [{fromEntities: [none]}]", {HOST}, {HOST}),
    ("ingress: [{fromEndpoints: null}]", {HOST}, {HOST}),
    ("ingress: [{fromEndpoints: null, toPorts: [{ports: [{port: '80'}]}]}]", EVERYONE, {HOST}),
    ("ingress: [{toPorts: [{ports: [{port: '80'}]}]}]", EVERYONE, {HOST}),
    ("ingress: [{toPorts: [{ports: [{port: '0'}]}]}]", EVERYONE, {HOST}),
    ("ingress: [{fromEndpoints: [{}]}]", {WEB, DB, HOST}, {WEB, DB, HOST}),
    ("ingress: [{fromEndpoints: [{}], toPorts: []}]", {WEB, DB, HOST}, {WEB, DB, HOST}),
    ("ingress: [{fromEndpoints: [{}], toPorts: [{ports: [{port: '0'}]}]}]", {WEB, DB, HOST}, {HOST}),
    ("ingress: [{fromEntities: [all]}]", EVERYONE, EVERYONE),
    ("ingress: [{fromEntities: [cluster]}]", {WEB, DB, OTHER, HOST}, {WEB, DB, OTHER, HOST}),
    ("ingress: [{fromEntities: [world]}]", {WORLD, HOST}, {WORLD, HOST}),
    ("ingressDeny: [{}]", {HOST}, {HOST}),
    ("ingressDeny: [{fromEntities: [host]}]", set(), set()),
    ("ingressDeny: [{fromEntities: [host]}], enableDefaultDeny: {ingress: false}", EVERYONE - {HOST}, EVERYONE - {HOST}),
    ("ingress: [], egress: [{}]", EVERYONE, EVERYONE),
    ("ingress: [{}], enableDefaultDeny: {ingress: false}", EVERYONE, EVERYONE),
    ("ingress: [{fromCIDR: [0.0.0.0/0]}]", {WORLD, HOST}, {WORLD, HOST}),
    ("ingress: [{icmps: [{fields: [{type: 8}]}]}]", {HOST}, EVERYONE),
]  # fmt: skip


@pytest.mark.parametrize(("sections", "tcp", "icmp"), MATRIX)
def test_empty_and_absent_mean_what_they_mean_to_the_peer(
    sections: str, tcp: set[Identity], icmp: set[Identity]
) -> None:
    engine = engine_with(policy(f"{DB_ONLY}, {sections}"))
    assert reach(engine) == tcp
    assert reach(engine, protocol=ICMP, port=8) == icmp
    assert allowed(engine, WEB, OTHER)


def test_clusterwide_everything_is_all_workloads_and_nobody_else() -> None:
    engine = engine_with(
        policy(f"{DB_ONLY}, ingress: [{{fromEndpoints: [{{}}]}}]", kind="CiliumClusterwideNetworkPolicy"),
        options=Options(admit_host=False),
    )
    assert reach(engine) == {WEB, DB, OTHER}


KUBERNETES = [
    ("policyTypes: [Ingress]", {HOST}),
    ("ingress: []", {HOST}),
    ("ingress: [{}]", EVERYONE),
    ("ingress: [{from: []}]", EVERYONE),
    ("ingress: [{from: [{podSelector: {}}]}]", {WEB, DB, HOST}),
    ("ingress: [{from: [{namespaceSelector: {}}]}]", {WEB, DB, OTHER, HOST}),
    ("ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: y}}}]}]", {OTHER, HOST}),
    ("ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}]}]", {WEB, HOST}),
    ("ingress: [{ports: [{port: 81}]}]", {HOST}),
    ("ingress: [{ports: [{port: 80}]}]", EVERYONE),
    ("ingress: [{ports: [{}]}]", EVERYONE),
    ("egress: [{}], policyTypes: [Egress]", EVERYONE),
    ("ingress: [{ports: [{port: 81}]}], policyTypes: [Egress]", EVERYONE),
    ("egress: []", {HOST}),
    ("ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/24}}]}]", {WEB, HOST}),
    ("ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/24, except: [10.0.0.1/32]}}]}]", {HOST}),
    ("ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]", {WEB, OTHER, HOST}),
]


@pytest.mark.parametrize(("sections", "expected"), KUBERNETES)
def test_kubernetes_policies_mean_what_their_specification_says(sections: str, expected: set[Identity]) -> None:
    engine = engine_with(
        EndpointsChanged(WEB, frozenset({"10.0.0.1"}), frozenset()),
        EndpointsChanged(OTHER, frozenset({"10.0.0.2", "10.9.0.1"}), frozenset()),
        policy(f"podSelector: {{matchLabels: {{app: db}}}}, {sections}", kind="NetworkPolicy"),
    )
    assert reach(engine) == expected


def test_any_protocol_is_tcp_udp_and_sctp() -> None:
    engine = engine_with(policy(f"{DB_ONLY}, ingress: [{{toPorts: [{{ports: [{{port: '53'}}]}}]}}]"))
    assert [protocol for protocol in range(256) if allowed(engine, DB, WEB, protocol, 53)] == [TCP, UDP, SCTP]


def test_a_deny_wins_wherever_it_stands() -> None:
    engine = engine_with(
        policy(f"{DB_ONLY}, ingress: [{{fromEndpoints: [{{}}]}}]", name="allow"),
        policy(f"{DB_ONLY}, ingressDeny: [{{toPorts: [{{ports: [{{port: '80', endPort: 89}}]}}]}}]", name="deny"),
    )
    assert not allowed(engine, DB, WEB, port=80)
    assert allowed(engine, DB, WEB, port=90)


def test_a_verdict_names_its_policy_and_a_default_names_none() -> None:
    engine = engine_with(
        policy(f"{DB_ONLY}, ingress: [{{fromEndpoints: [{{}}]}}]", name="b"),
        policy(f"{DB_ONLY}, ingress: [{{fromEndpoints: [{{}}]}}]", name="a"),
    )
    verdict = decide(engine.map_state(DB), WEB, egress=False, protocol=TCP, port=80)
    assert verdict.cookie == policy_cookie("CiliumNetworkPolicy/x/a")
    assert decide(engine.map_state(DB), WEB, egress=True, protocol=TCP, port=80).cookie == 0


def test_without_policies_everything_is_one_entry_for_each_direction() -> None:
    engine = engine_with()
    assert engine.map_state(WEB).keys() == {PolicyKey(False, ANY_PEER, 0, 0, 0), PolicyKey(True, ANY_PEER, 0, 0, 0)}


def test_an_endpoint_without_labels_yet_is_denied_everything() -> None:
    assert engine_with().map_state(INIT) == {}


def test_modes_change_at_run_time() -> None:
    engine = engine_with(policy(f"{DB_ONLY}, ingressDeny: [{{fromEndpoints: [{{}}]}}]"))
    engine.apply([ModeSet(Mode.NEVER)])
    assert reach(engine) == EVERYONE
    engine.apply([ModeSet(Mode.ALWAYS)])
    assert not allowed(engine, OTHER, WEB)
    assert allowed(engine, OTHER, HOST)
    engine.apply([ModeSet(Mode.DEFAULT)])
    assert allowed(engine, OTHER, WEB)
    assert reach(engine) == {HOST}


def test_port_names_of_ingress_are_the_subjects_and_those_of_egress_the_peers() -> None:
    named = "toPorts: [{ports: [{port: http, protocol: TCP}]}]"
    engine = engine_with(
        EndpointsChanged(DB, frozenset(), frozenset({ContainerPort("http", TCP, 8080)})),
        EndpointsChanged(WEB, frozenset(), frozenset({ContainerPort("http", TCP, 80)})),
        policy(f"endpointSelector: {{}}, ingress: [{{{named}}}], egress: [{{{named}}}]"),
    )
    assert allowed(engine, DB, WORLD, port=8080)
    assert not allowed(engine, DB, WORLD, port=80)
    assert allowed(engine, DB, WEB, port=80, egress=True)
    assert not allowed(engine, DB, WORLD, port=80, egress=True)
    engine.apply([EndpointsChanged(WEB, frozenset(), frozenset({ContainerPort("http", TCP, 81)}))])
    assert allowed(engine, DB, WEB, port=81, egress=True)
    assert not allowed(engine, DB, WEB, port=80, egress=True)


def test_a_name_that_pods_of_one_identity_give_to_two_ports_opens_neither() -> None:
    both = frozenset({ContainerPort("http", TCP, 80), ContainerPort("http", TCP, 81)})
    engine = engine_with(
        EndpointsChanged(DB, frozenset(), both),
        policy(f"{DB_ONLY}, ingress: [{{toPorts: [{{ports: [{{port: http}}]}}]}}]"),
    )
    assert reach(engine) == reach(engine, port=81) == {HOST}


def test_the_longest_prefix_and_those_around_it_are_selected() -> None:
    inner, outer = Identity(300), Identity(301)
    world = Label("reserved", "world", "")
    engine = engine_with(policy(f"{DB_ONLY}, egress: [{{toCIDRSet: [{{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]}}]"))
    engine.apply(
        [
            IdentityPut(outer, frozenset({cidr_label(parse_prefix("10.0.0.0/8")), world})),
            IdentityPut(inner, frozenset({cidr_label(parse_prefix("10.1.0.0/16")), world})),
        ]
    )
    assert allowed(engine, DB, outer, egress=True)
    assert not allowed(engine, DB, inner, egress=True)
    assert not allowed(engine, DB, WORLD, egress=True)
    assert inner not in engine.subjects


def test_a_policy_names_the_prefixes_that_need_identities() -> None:
    put = policy(
        f"{DB_ONLY}, egress: [{{toCIDRSet: [{{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]}}, {{toCIDR: ['::/0']}}]"
    )
    assert {str(prefix) for prefix in put.policy.prefixes} == {"10.0.0.0/8", "10.1.0.0/16", "::/0"}
    assert str(cidr_label(parse_prefix("::1/128"))) == "cidr:0--1/128"
    assert parse_prefix("0--1/128") == parse_prefix("::1/128")


def test_a_new_identity_changes_its_own_entries_of_those_who_select_it() -> None:
    engine = engine_with(policy(f"{DB_ONLY}, ingress: [{{fromEndpoints: [{{matchLabels: {{app: web}}}}]}}]"))
    new = Identity(400)
    changes = engine.apply([IdentityPut(new, app("web") | {Label("k8s", "track", "b")})])
    assert changes.keys() == {DB, new}
    assert list(changes[DB].upserts) == [PolicyKey(False, new, 0, 0, 0)]
    gone = engine.apply([IdentityRemoved(new)])
    assert gone[DB].removes == (PolicyKey(False, new, 0, 0, 0),)
    assert gone.keys() == {DB, new}
    assert len(gone[new].removes) == 2


def test_a_changed_policy_changes_only_the_entries_that_differ() -> None:
    both = "ingress: [{toPorts: [{ports: [{port: '80', protocol: TCP}, {port: '%s', protocol: TCP}]}]}]"
    engine = engine_with(policy(f"{DB_ONLY}, {both % '81'}"))
    changes = engine.apply([policy(f"{DB_ONLY}, {both % '82'}")])
    assert changes.keys() == {DB}
    assert list(changes[DB].upserts) == [PolicyKey(False, ANY_PEER, TCP, 82, 16)]
    assert changes[DB].removes == (PolicyKey(False, ANY_PEER, TCP, 81, 16),)


def test_what_changes_nothing_is_no_difference() -> None:
    put = policy(f"{DB_ONLY}, ingress: [{{}}]")
    engine = engine_with(put)
    assert engine.apply([put]) == {}
    assert engine.apply([IdentityPut(WEB, app("web"))]) == {}
    assert engine.apply([PolicyRemoved(put.policy.key), put]) == {}
    assert engine.apply([PolicyRemoved("unknown"), IdentityRemoved(Identity(999))]) == {}


def test_subjects_under_the_same_policies_share_one_difference() -> None:
    engine = engine_with()
    changes = engine.apply([policy("endpointSelector: {}, ingress: [{}]")])
    assert changes.keys() == {WEB, DB}
    assert changes[WEB] is changes[DB]


def test_a_stored_object_gives_the_policy_that_was_accepted() -> None:
    meta = "apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: p}"
    text = f"{{{meta}, spec: {{endpointSelector: {{}}, ingress: [{{}}]}}}}"
    (parsed,) = parse_policies(text, namespace="shop")
    assert (parsed.key, parsed.namespace) == ("CiliumNetworkPolicy/shop/p", "shop")
    row = PolicyObject(parsed.kind, parsed.namespace, parsed.name, parsed.document)
    assert decode_object(row).policy == parsed.policy
    assert parse_policies(parsed.document)[0].document == parsed.document


def test_yaml_json_documents_and_lists_are_read_alike() -> None:
    item = json.dumps(
        {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "a"},
            "spec": {"endpointSelector": {}, "ingress": [{}]},
        }
    )
    other = item.replace('"a"', '"b"')
    as_list = f'{{"apiVersion": "v1", "kind": "List", "items": [{item}, {other}]}}'
    as_documents = f"{item}\n---\n---\n{other}\n"
    assert parse_policies(as_list) == parse_policies(as_documents)
    assert len(parse_policies("")) == 0


def test_what_the_engine_gives_back_puts_it_into_the_same_state() -> None:
    engine = Engine()
    group = PrefixGroup(frozenset({ip_network("10.0.0.0/8")}), (("tier", "gold"),))
    engine.apply([PolicyPut(Policy("CiliumCIDRGroup//g", (), group=group))])
    before = engine.policy("CiliumCIDRGroup//g")
    engine.apply([PolicyRemoved("CiliumCIDRGroup//g")])
    assert engine.prefixes == set()
    engine.apply([PolicyPut(before)])
    assert engine.policies == {"CiliumCIDRGroup//g": before}
    assert engine.prefixes == group.prefixes


def test_a_block_counts_the_addresses_of_its_family() -> None:
    selector = Selector(block=Block(ip_network("10.0.0.0/8")))
    both = view_peer(Identity(300), frozenset(), addresses=map(ip_network, ("10.0.0.1", "fd00::1")))
    elsewhere = view_peer(Identity(301), frozenset(), addresses=map(ip_network, ("192.0.2.1", "fd00::2")))
    only_ipv6 = view_peer(Identity(302), frozenset(), addresses=[ip_network("fd00::3")])
    assert [selects(selector, peer) for peer in (both, elsewhere, only_ipv6)] == [True, False, False]


def test_an_address_is_parsed_once_however_often_pods_of_its_identity_come_and_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = engine_with(policy(f"{DB_ONLY}, ingress: [{{}}]"))
    parsed = Counter[str]()

    def parse(address: str) -> IPv4Address | IPv6Address:
        parsed[address] += 1
        return ip_address(address)

    monkeypatch.setattr("cilia.policy.engine.engine.ip_address", parse)
    held: set[str] = set()
    for number in range(100):
        held.add(f"10.0.0.{number}")
        engine.apply([EndpointsChanged(WEB, frozenset(held), frozenset())])
    for number in range(50):
        held.remove(f"10.0.0.{number}")
        engine.apply([EndpointsChanged(WEB, frozenset(held), frozenset())])
    assert set(parsed.values()) == {1}
    peer = engine.peer(WEB)
    assert peer is not None
    assert set(peer.prefixes) == {ip_network(address) for address in held}


def test_a_pod_outside_of_a_block_takes_its_identity_out_of_it_until_it_is_gone() -> None:
    engine = engine_with(
        policy(
            "podSelector: {matchLabels: {app: db}}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/16}}]}]",
            kind="NetworkPolicy",
        ),
        EndpointsChanged(WEB, frozenset({"10.0.0.1"}), frozenset()),
    )
    assert allowed(engine, DB, WEB)
    changed = engine.apply([EndpointsChanged(WEB, frozenset({"10.0.0.1", "10.9.0.1"}), frozenset())])
    assert (list(changed), allowed(engine, DB, WEB)) == ([DB], False)
    assert engine.apply([EndpointsChanged(WEB, frozenset({"10.0.0.1", "10.9.0.1", "10.9.0.2"}), frozenset())]) == {}
    changed = engine.apply([EndpointsChanged(WEB, frozenset({"10.0.0.1"}), frozenset())])
    assert (list(changed), allowed(engine, DB, WEB)) == ([DB], True)
    engine.apply([EndpointsChanged(WEB, frozenset(), frozenset())])
    assert not allowed(engine, DB, WEB)


STORAGE, FAST, REMOTE = Identity((2 << 24) + 1), Identity((2 << 24) + 2), Identity(6)


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ("{matchLabels: {zone: a}}", {STORAGE, FAST}),
        ("{matchLabels: {'node:zone': a, disk: fast}}", {FAST}),
        ("{matchExpressions: [{key: disk, operator: DoesNotExist}]}", {STORAGE, REMOTE}),
        ("{matchLabels: {'k8s:zone': a}}", set()),
        ("{}", {STORAGE, FAST, REMOTE}),
    ],
)
def test_nodes_are_selected_by_their_labels_and_nobody_else_is(selector: str, selected: set[Identity]) -> None:
    engine = engine_with(policy(f"endpointSelector: {{}}, ingress: [{{fromNodes: [{selector}]}}]"))
    engine.apply([IdentityPut(STORAGE, node(["zone=a"])), IdentityPut(FAST, node(["zone=a", "disk=fast"]))])
    engine.apply([IdentityPut(Identity(300), workload("x", {"zone": "a"}))])
    everybody = (STORAGE, FAST, REMOTE, HOST, WORLD, WEB, Identity(300))
    assert {peer for peer in everybody if allowed(engine, DB, peer)} == selected | {HOST}
