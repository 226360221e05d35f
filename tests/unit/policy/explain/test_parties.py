"""Parties of a flow by name, packets by text, and the judge's reasons."""

import json

import pytest

from cilia.contracts.explanations import PeerSelector, VerdictReason
from cilia.contracts.identities import Reserved
from cilia.contracts.ids import Identity
from cilia.contracts.labels import parse_labels
from cilia.policy.engine.engine import Engine
from cilia.policy.engine.events import EndpointsChanged, IdentityPut, ModeSet, PolicyPut
from cilia.policy.engine.options import Mode, Options
from cilia.policy.engine.selectors import ContainerPort
from cilia.policy.explain.judgement import Judge
from cilia.policy.explain.packet import BadPort, Packet, read_port
from cilia.policy.explain.parties import Owner, Party, UnknownParty, find_parties, find_party, party_of_identity
from cilia.policy.explain.suggestion import allow_policy
from cilia.policy.language.parse import parse_policies

NAMESPACE = "k8s:io.kubernetes.pod.namespace=shop"
WEB, DB, HOST = Identity(300), Identity(301), Identity(Reserved.HOST)
NEAR = Owner("near", Identity(Reserved.REMOTE_NODE), "near", is_node=True)


class Known:
    """Directory of two pods and a node."""

    def pod(self, name: str) -> Owner | None:
        return {"shop/web": Owner("shop/web", WEB, "near"), "default/lone": Owner("default/lone", WEB, "away")}.get(
            name
        )

    def at(self, address: str) -> Owner | None:
        return {"10.0.0.5": self.pod("shop/web"), "2001:db8::5": self.pod("shop/web"), "192.0.2.9": NEAR}.get(address)


KNOWN = Known()


def engine(*policies: dict[str, object], mode: Mode = Mode.DEFAULT, audit: bool = False) -> Engine:
    found = Engine(Options())
    found.apply(
        [
            IdentityPut(WEB, parse_labels(["k8s:app=web", NAMESPACE])),
            IdentityPut(DB, parse_labels(["k8s:app=db", NAMESPACE])),
            EndpointsChanged(DB, frozenset({"10.0.0.7"}), frozenset({ContainerPort("sql", 6, 5432)})),
            ModeSet(mode, audit),
            *(PolicyPut(each.policy) for text in policies for each in parse_policies(json.dumps(text))),
        ]
    )
    return found


def policy(name: str = "db", **spec: object) -> dict[str, object]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"endpointSelector": {"matchLabels": {"app": "db"}}, **spec},
    }


ALLOW_WEB = [{"fromEndpoints": [{"matchLabels": {"app": "web"}}]}]


@pytest.mark.parametrize(
    ("text", "port"),
    [("80/TCP", ("80", 6)), ("80", ("80", 6)), ("http/tcp", ("http", 6)), ("8/ICMP", ("8", 1)), ("0/SCTP", ("0", 132))],
)
def test_a_port_is_a_number_or_a_name_and_a_protocol(text: str, port: tuple[str, int]) -> None:
    assert read_port(text) == port


@pytest.mark.parametrize("text", ["", "/TCP", "80/HTTP", "65536/TCP", "8/QUIC"])
def test_another_text_is_no_port(text: str) -> None:
    with pytest.raises(BadPort, match="is no port/protocol, such as 80/TCP"):
        read_port(text)


def test_a_packet_is_written_as_it_is_read() -> None:
    assert [str(Packet(*each)) for each in ((6, 80), (1, 8), (47, 0))] == ["80/TCP", "8/ICMP", "0/47"]


@pytest.mark.parametrize(
    ("name", "identity", "subject"),
    [
        ("shop/web", WEB, True),
        ("lone", WEB, True),
        ("301", DB, True),
        ("host", HOST, False),
        ("192.0.2.1", Identity(Reserved.WORLD_IPV4), False),
        ("10.0.0.5", WEB, True),
        ("2001:0DB8::0005", WEB, True),
        ("192.0.2.9", Identity(Reserved.REMOTE_NODE), False),
        ("2001:db8::1", Identity(Reserved.WORLD_IPV6), False),
    ],
)
def test_a_party_goes_by_pod_identity_entity_or_address(name: str, identity: Identity, subject: bool) -> None:
    found = find_party(engine(), PeerSelector(name), KNOWN)
    assert (found.peer.identity, found.is_subject) == (identity, subject)


@pytest.mark.parametrize(("pod", "node"), [("shop/web", Reserved.HOST), ("lone", Reserved.REMOTE_NODE)])
def test_a_node_is_the_host_to_its_own_pods_only(pod: str, node: Reserved) -> None:
    own, machine = PeerSelector(pod), PeerSelector("192.0.2.9")
    assert find_parties(engine(), own, machine, KNOWN)[1].peer.identity == Identity(node)
    assert find_parties(engine(), machine, own, KNOWN)[0].peer.identity == Identity(node)


@pytest.mark.parametrize("name", ["moon", "999", "10.0.0.300", ""])
def test_another_name_means_nobody(name: str) -> None:
    with pytest.raises(UnknownParty):
        find_party(engine(), PeerSelector(name), KNOWN)


def test_labels_that_make_no_sense_mean_nobody() -> None:
    with pytest.raises(UnknownParty):
        find_party(engine(), PeerSelector(labels=(";",)), KNOWN)


def test_a_named_port_is_the_one_number_that_all_pods_give_it() -> None:
    found = engine()
    db = party_of_identity(found, DB, "db")
    assert (db.number("sql", 6), db.number("sql", 17), db.number("81", 6)) == (5432, None, 81)
    both = frozenset({ContainerPort("sql", 6, 5432), ContainerPort("sql", 6, 5433)})
    found.apply([EndpointsChanged(DB, frozenset(), both)])
    assert party_of_identity(found, DB, "db").number("sql", 6) is None


def test_an_address_goes_by_the_longest_prefix_that_policies_name() -> None:
    found = engine(policy(ingress=[{"fromCIDR": ["10.0.0.0/8", "10.1.0.0/16"]}]))
    for address, longest in (("10.1.2.3", "10.1.0.0/16"), ("10.2.0.1", "10.0.0.0/8"), ("192.0.2.1", "0.0.0.0/0")):
        peer = find_party(found, PeerSelector(address), KNOWN).peer
        assert max(peer.prefixes, key=lambda prefix: prefix.prefixlen).compressed == longest


@pytest.mark.parametrize(
    ("found", "peer", "port", "allowed", "because"),
    [
        (engine(), WEB, 80, True, VerdictReason.OPEN),
        (engine(policy(ingress=ALLOW_WEB)), WEB, 80, True, VerdictReason.RULE),
        (engine(policy(ingress=ALLOW_WEB)), DB, 80, False, VerdictReason.DEFAULT_DENY),
        (engine(policy(ingress=ALLOW_WEB)), HOST, 80, True, VerdictReason.HOST),
        (engine(policy(ingressDeny=ALLOW_WEB, ingress=ALLOW_WEB)), WEB, 80, False, VerdictReason.RULE),
        (engine(mode=Mode.ALWAYS), WEB, 80, False, VerdictReason.CLOSED),
        (engine(policy(ingressDeny=ALLOW_WEB), mode=Mode.NEVER), WEB, 80, True, VerdictReason.MODE),
    ],
    ids=["open", "rule", "default deny", "host", "deny wins", "closed", "mode"],
)
def test_a_verdict_has_its_reason(
    found: Engine, peer: Identity, port: int, allowed: bool, because: VerdictReason
) -> None:
    parties = [party_of_identity(found, each, "x") for each in (DB, peer)]
    side = Judge(found).judge_side(parties[0], parties[1], Packet(6, port), egress=False)
    assert (side.allowed, side.because, side.audited) == (allowed, because, False)


def test_policies_are_not_enforced_where_there_is_no_endpoint() -> None:
    found = engine(policy(ingress=ALLOW_WEB))
    host, db = (party_of_identity(found, each, "x") for each in (HOST, DB))
    judged = Judge(found).judge(host, db, Packet(6, 80))
    assert judged.egress.because is VerdictReason.NOT_ENFORCED
    assert judged.allowed


def test_an_audit_lets_a_denial_through_and_says_so() -> None:
    for found in (
        engine(policy(ingress=[{}]), audit=True),
        engine({**policy(ingress=[{}]), "metadata": {**AUDITED}}),
    ):
        web, db = (party_of_identity(found, each, "x") for each in (WEB, DB))
        side = Judge(found).judge_side(db, web, Packet(6, 80), egress=False)
        assert (side.allowed, side.audited, side.because) == (True, True, VerdictReason.DEFAULT_DENY)


AUDITED = {"name": "db", "namespace": "shop", "annotations": {"cilia.io/audit": "true"}}


def test_egress_that_is_denied_decides_alone() -> None:
    web_out = policy("web", endpointSelector={"matchLabels": {"app": "web"}}, egress=[{}])
    found = engine(web_out, policy(ingress=[{}]))
    web, db = (party_of_identity(found, each, "x") for each in (WEB, DB))
    judged = Judge(found).judge(web, db, Packet(6, 80))
    assert judged.deciding == (judged.egress,)
    assert len(Judge(found).judge(db, web, Packet(6, 80)).deciding) == 2


@pytest.mark.parametrize(
    ("name", "packet", "expected"),
    [
        ("shop/web", Packet(6, 80), {"fromEndpoints": [{"matchLabels": {"app": "web"}}], "port": "80"}),
        ("192.0.2.1", Packet(17, 53), {"fromCIDR": ["192.0.2.1/32"], "port": "53"}),
        ("host", Packet(132, 9), {"fromEntities": ["host"], "port": "9"}),
        ("shop/web", Packet(1, 8), {"fromEndpoints": [{"matchLabels": {"app": "web"}}], "type": 8}),
        ("shop/web", Packet(47, 0), {"fromEndpoints": [{"matchLabels": {"app": "web"}}], "port": "0"}),
    ],
)
def test_a_suggestion_names_exactly_the_peer_and_the_port(
    name: str, packet: Packet, expected: dict[str, object]
) -> None:
    found = engine()
    peer, db = find_party(found, PeerSelector(name), KNOWN), party_of_identity(found, DB, "shop/db")
    (parsed,) = parse_policies(allow_policy(db, peer, packet, egress=False))
    (rule,) = json.loads(parsed.document)["spec"]["ingress"]
    ports = rule.pop("toPorts", None)
    types = rule.pop("icmps", None)
    number = {"port": ports[0]["ports"][0]["port"]} if ports else {"type": types[0]["fields"][0]["type"]}
    assert rule | number == expected
    assert json.loads(parsed.document)["spec"]["enableDefaultDeny"] == {"ingress": False}


@pytest.mark.parametrize("packet", [Packet(6, 0), Packet(1, 0), Packet(97, 0)])
def test_what_the_language_cannot_name_has_no_suggestion(packet: Packet) -> None:
    found = engine()
    web: Party = party_of_identity(found, WEB, "shop/web")
    assert allow_policy(party_of_identity(found, DB, "shop/db"), web, packet, egress=False) == ""
