"""The index of selectors is as exact as trying all pairs, under every change."""

from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cilia.contracts.ids import Identity
from cilia.contracts.labels import parse_labels
from cilia.policy.engine.rules import EVERYTHING, Block, Operator, Requirement, Selector, cidr_label, parse_prefix
from cilia.policy.engine.selectors import ContainerPort, Peer, Selection, SelectorIndex, selects, view_peer
from tests.property.examples import examples
from tests.property.test_policy import blocks, cidr_selectors, entities, label_selectors, labels

WEB, DB = Identity(256), Identity(257)


def wants(key: str, operator: Operator, *values: str, source: str = "k8s") -> Selector:
    return Selector((Requirement(source, key, operator, values),))


def pod(number: int, *texts: str, addresses: tuple[str, ...] = ()) -> Peer:
    return view_peer(Identity(number), parse_labels(texts), addresses=map(ip_network, addresses))


@pytest.mark.parametrize(
    ("selector", "texts", "selected"),
    [
        (EVERYTHING, [], True),
        (wants("app", Operator.IN, "web", "db"), ["k8s:app=db"], True),
        (wants("app", Operator.IN, "web"), ["k8s:app=db"], False),
        (wants("app", Operator.IN, "web"), [], False),
        (wants("app", Operator.NOT_IN, "web"), ["k8s:app=db"], True),
        (wants("app", Operator.NOT_IN, "web"), ["k8s:app=web"], False),
        (wants("app", Operator.NOT_IN, "web"), [], True),
        (wants("app", Operator.EXISTS), ["k8s:app="], True),
        (wants("app", Operator.EXISTS), ["k8s:tier=x"], False),
        (wants("app", Operator.ABSENT), ["k8s:tier=x"], True),
        (wants("app", Operator.ABSENT), ["k8s:app=web"], False),
        (wants("app", Operator.IN, "web", source="any"), ["container:app=web"], True),
        (wants("app", Operator.IN, "web"), ["container:app=web"], False),
        (wants("host", Operator.EXISTS, source="reserved"), ["reserved:host"], True),
        (wants("host", Operator.EXISTS, source="reserved"), ["k8s:host=x"], False),
    ],
)
def test_a_requirement_is_met_by_the_labels_that_it_means(selector: Selector, texts: list[str], selected: bool) -> None:
    assert selects(selector, pod(256, *texts)) is selected


def test_a_prefix_bears_the_labels_of_all_that_cover_it() -> None:
    peer = view_peer(Identity(300), frozenset({cidr_label(parse_prefix("10.1.2.0/24"))}))
    covered = ("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24")
    assert all(selects(wants(text, Operator.EXISTS, source="cidr"), peer) for text in covered)
    others = ("10.1.2.0/25", "10.2.0.0/16", "::/0")
    assert not any(selects(wants(text, Operator.EXISTS, source="cidr"), peer) for text in others)


def test_groups_name_what_lies_within_their_prefixes() -> None:
    named = {ip_network("10.0.0.0/8"): {("cidrgroup", "partner"): "yes"}}
    for text, value in (("10.1.2.0/24", "yes"), ("10.0.0.0/8", "yes"), ("192.0.2.0/24", None)):
        peer = view_peer(Identity(300), frozenset({cidr_label(parse_prefix(text))}), named=named)
        assert peer.labels.get(("cidrgroup", "partner")) == value


@pytest.mark.parametrize(
    ("addresses", "selected"),
    [
        (("10.1.2.3",), True),
        (("10.1.2.3", "10.9.9.9"), True),
        (("10.1.2.3", "10.2.0.1"), False),
        (("10.1.2.3", "192.0.2.1"), False),
        (("10.1.2.3", "2001:db8::1"), True),
        (("2001:db8::1",), False),
        ((), False),
    ],
)
def test_a_block_means_pods_all_of_whose_addresses_of_its_family_lie_in_it(
    addresses: tuple[str, ...], selected: bool
) -> None:
    block = Selector(block=Block(parse_prefix("10.0.0.0/8"), (parse_prefix("10.2.0.0/16"),)))
    assert selects(block, pod(256, "k8s:app=web", addresses=addresses)) is selected


def test_a_selector_in_use_follows_identities_that_come_change_and_go() -> None:
    index = SelectorIndex()
    web = index.use(wants("app", Operator.IN, "web"))
    index.put(pod(WEB, "k8s:app=web"))
    index.put(pod(DB, "k8s:app=db"))
    assert web.members == {WEB}
    index.put(pod(DB, "k8s:app=web"))
    index.put(pod(WEB, "k8s:app=other"))
    assert (web.members, index.selecting(DB), index.selecting(WEB)) == ({DB}, {web}, set())
    index.remove(DB)
    index.remove(Identity(999))
    assert (web.members, index.peer(DB)) == (set(), None)


def test_users_of_the_same_selector_share_it_until_the_last_one_goes() -> None:
    index = SelectorIndex()
    index.put(pod(WEB, "k8s:app=web"))
    one, other = index.use(wants("app", Operator.EXISTS)), index.use(wants("app", Operator.EXISTS))
    assert one is other
    index.disuse(one)
    assert index.selecting(WEB) == {one}
    index.disuse(one)
    assert index.selecting(WEB) == set()
    assert index.use(wants("app", Operator.EXISTS)) is not one


def test_a_view_keeps_the_ports_that_the_pods_name() -> None:
    ports = frozenset({ContainerPort("http", 6, 8080)})
    assert view_peer(WEB, frozenset(), ports=ports).ports == ports


addresses = st.lists(st.sampled_from(["10.1.2.3", "10.9.9.9", "192.0.2.7", "2001:db8::7"]), max_size=3).map(tuple)
selectors = st.one_of(label_selectors, cidr_selectors, blocks, entities)
outside = st.sampled_from(["10.1.2.0/24", "10.0.0.0/8", "192.0.2.0/24"])
peers = st.one_of(
    st.builds(
        lambda number, texts, addresses: pod(number, *texts, addresses=addresses),
        st.integers(256, 259),
        labels,
        addresses,
    ),
    st.builds(
        lambda number, text: view_peer(Identity(number), frozenset({cidr_label(parse_prefix(text))})),
        st.integers(300, 302),
        outside,
    ),
)
steps = st.one_of(
    st.tuples(st.just("put"), peers),
    st.tuples(st.just("readdress"), addresses),
    st.tuples(st.just("remove"), st.sampled_from([256, 257, 300, 301])),
    st.tuples(st.just("use"), selectors),
    st.tuples(st.just("disuse"), st.integers(0, 5)),
)


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(steps, max_size=25))
def test_the_index_equals_trying_all_pairs(history: list[tuple[str, object]]) -> None:
    index, known = SelectorIndex(), dict[Identity, Peer]()
    used: list[Selection] = []
    for step, what in history:
        match step, what:
            case "put", Peer():
                known[what.identity] = what
                index.put(what)
            case "readdress", tuple() if Identity(256) in known:
                before = known[Identity(256)]
                peer = known[Identity(256)] = replace(before, prefixes=tuple(map(ip_network, set(what))))
                added = [each for each in peer.prefixes if each not in before.prefixes]
                gone = [each for each in before.prefixes if each not in peer.prefixes]
                was = set(index.selecting(Identity(256)))
                assert index.readdress(peer, added, gone) == was ^ index.selecting(Identity(256))
            case "remove", int():
                known.pop(Identity(what), None)
                index.remove(Identity(what))
            case "use", Selector():
                used.append(index.use(what))
            case "disuse", int() if used:
                index.disuse(used.pop(what % len(used)))
        for selection in used:
            assert selection.members == {each for each, peer in known.items() if selects(selection.selector, peer)}
        for identity in known:
            assert index.selecting(identity) == {each for each in used if identity in each.members}
