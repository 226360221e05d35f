import pytest

from cilia.abi.enums import DropReason
from cilia.abi.structs import Event
from cilia.contracts.flow_events import Flow
from cilia.contracts.ids import NodeName
from cilia.datapath.clock import UnixClock
from services.agent.address import number, packed
from services.agent.flows.naming import Names, flow_of, reason_name

REMOTE = (number("10.2.0.5"), number("fd00:2::5"))
NAMES = Names(
    endpoint=lambda number: f"default/pod{number}",
    address=lambda address: "default/remote" if address in REMOTE else "",
    policy=lambda cookie: f"policy {cookie}",
)


def event(kind: int = 1, *, cookie: int = 0, audited: int = 0, direction: int = 0) -> Event:
    return Event(
        time_ns=5,
        kind=kind,
        reason=133 if kind == 2 else 0,
        direction=direction,
        audited=audited,
        family=4,
        protocol=6,
        tcp_flags=2,
        hook=0,
        length=74,
        ifindex=9,
        identity=(300, 301),
        endpoint=(7, 0),
        port=(40000, 80),
        cookie=cookie,
        source=packed(number("10.1.0.5")),
        destination=packed(number("10.2.0.5")),
        is_reply=0,
    )


def named(which: Event) -> Flow:
    return flow_of(which, NodeName("node1"), UnixClock(1000), NAMES)


def test_a_verdict_names_both_ends() -> None:
    flow = named(event())
    assert (flow.time_ns, flow.kind, flow.verdict, flow.protocol) == (1005, "verdict", "forwarded", "tcp")
    assert (flow.source, flow.source_port, flow.source_identity) == ("10.1.0.5", 40000, 300)
    assert (flow.source_endpoint, flow.destination_endpoint) == ("default/pod7", "default/remote")


def test_a_drop_has_its_reason_and_the_policy_that_decided() -> None:
    flow = named(event(2, cookie=9, direction=1))
    assert (flow.verdict, flow.reason, flow.policy, flow.direction) == (
        "dropped",
        "policy-denied",
        "policy 9",
        "egress",
    )


def test_what_would_have_been_dropped_is_an_audit() -> None:
    assert named(event(audited=1)).verdict == "audit"


def test_ipv6_is_shown_and_named_alike() -> None:
    source, destination = packed(number("fd00:1::5")), packed(number("fd00:2::5"))
    flow = named(event()._replace(family=6, protocol=58, source=source, destination=destination))
    assert (flow.protocol, flow.source, flow.destination) == ("icmpv6", "fd00:1::5", "fd00:2::5")
    assert flow.destination_endpoint == "default/remote"


@pytest.mark.parametrize("reason", list(DropReason))
def test_every_reason_has_a_name_of_small_letters_and_dashes(reason: DropReason) -> None:
    name = reason_name(reason)
    assert name == name.lower()
    assert "_" not in name
    assert not name.startswith("reason-")


def test_a_reason_of_a_newer_program_is_shown_as_its_number() -> None:
    assert reason_name(9999) == "reason-9999"
    assert named(event(2)._replace(reason=9999)).reason == "reason-9999"


@pytest.mark.parametrize(
    ("number", "name"), [(1, "icmp"), (6, "tcp"), (17, "udp"), (58, "icmpv6"), (132, "sctp"), (47, "47")]
)
def test_a_protocol_without_a_name_is_shown_as_its_number(number: int, name: str) -> None:
    assert named(event()._replace(protocol=number)).protocol == name


def test_a_packet_of_no_family_that_we_read_has_no_addresses() -> None:
    flow = named(event()._replace(family=0))
    assert (flow.source, flow.destination) == ("", "")


def test_a_default_verdict_names_no_policy() -> None:
    assert named(event(cookie=0)).policy == ""
