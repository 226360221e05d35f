"""Addresses and ports of the pods of an identity, counted as pods come, change and go."""

from hypothesis import given, settings
from hypothesis import strategies as st

from cilia.contracts.ids import EndpointId, Identity, NodeName
from cilia.contracts.tables import Endpoint, EndpointKey
from cilia.policy.engine.events import EndpointsChanged
from cilia.policy.engine.selectors import ContainerPort
from services.policy.resolution.events import EndpointEvent
from services.policy.resolution.identity_endpoints import IdentityEndpoints
from tests.property.examples import examples

WEB = Identity(300)
NODE = NodeName("n1")
HTTP, SQL = ("http", "tcp", 8080), ("sql", "TCP", 5432)


def put(number: int, *ports: tuple[str, str, int], of: Identity = WEB, ipv6: str = "") -> EndpointEvent:
    key = EndpointKey(NODE, EndpointId(number))
    return EndpointEvent(key, Endpoint(NODE, key.id, of, f"10.0.0.{number}", ipv6, "shop", f"web{number}", ports))


def gone(number: int) -> EndpointEvent:
    return EndpointEvent(EndpointKey(NODE, EndpointId(number)), None)


def changed(*addresses: str, of: Identity = WEB, ports: tuple[tuple[str, int], ...] = ()) -> EndpointsChanged:
    return EndpointsChanged(of, frozenset(addresses), frozenset(ContainerPort(name, 6, port) for name, port in ports))


def test_addresses_of_both_families_and_named_ports_add_up() -> None:
    held = IdentityEndpoints()
    assert [*held.take([put(1, HTTP, ipv6="fd00::1")])] == [changed("10.0.0.1", "fd00::1", ports=(("http", 8080),))]
    both = changed("10.0.0.1", "fd00::1", "10.0.0.2", ports=(("http", 8080), ("sql", 5432)))
    assert [*held.take([put(2, HTTP, SQL)])] == [both]


def test_a_port_that_two_pods_name_stays_until_the_last_of_them_goes() -> None:
    held = IdentityEndpoints()
    list(held.take([put(1, HTTP), put(2, HTTP, HTTP)]))
    assert [*held.take([gone(1)])] == [changed("10.0.0.2", ports=(("http", 8080),))]
    assert [*held.take([put(2)])] == [changed("10.0.0.2")]
    assert [*held.take([gone(2), gone(3)])] == [changed()]
    assert [*held.take([gone(2)])] == []


def test_a_pod_that_changes_its_identity_concerns_both() -> None:
    held, db = IdentityEndpoints(), Identity(301)
    list(held.take([put(1, HTTP)]))
    assert [*held.take([put(1, HTTP, of=db)])] == [changed(), changed("10.0.0.1", of=db, ports=(("http", 8080),))]


def test_ports_of_protocols_that_no_rule_names_by_port_are_left_out() -> None:
    assert [*IdentityEndpoints().take([put(1, ("odd", "carp", 1))])] == [changed("10.0.0.1")]


def test_after_a_restart_nobody_is_there() -> None:
    held = IdentityEndpoints()
    list(held.take([put(1), put(2, of=Identity(301))]))
    assert [row.id for row in held.rows] == [1, 2]
    held.clear()
    assert list(held.rows) == []
    assert [*held.take([gone(1)])] == []


ports = st.lists(st.sampled_from([HTTP, SQL, ("odd", "carp", 1)]), max_size=3)
events = st.one_of(
    st.builds(
        lambda number, of, ports: put(number, *ports, of=Identity(of)), st.integers(1, 4), st.integers(300, 301), ports
    ),
    st.integers(1, 4).map(gone),
)


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(st.lists(events, max_size=3), max_size=10))
def test_what_was_told_last_is_what_adding_up_all_of_it_gives(history: list[list[EndpointEvent]]) -> None:
    held, told = IdentityEndpoints(), dict[Identity, EndpointsChanged]()
    rows: dict[EndpointKey, Endpoint] = {}
    for batch in history:
        told |= {each.identity: each for each in held.take(batch)}
        for event in batch:
            rows.pop(event.key, None)
            if event.row is not None:
                rows[event.key] = event.row
        for identity, found in told.items():
            mine = [row for row in rows.values() if row.identity == identity]
            assert found.addresses == {row.ipv4 for row in mine}
            assert {each.name for each in found.ports} == {name for row in mine for name, _, _ in row.named_ports} - {
                "odd"
            }
