"""Stages of an endpoint's life: states, repeated requests, restorations, records."""

import pytest
from msgspec.structs import replace

from cilia.contracts.agent import EndpointState
from cilia.contracts.ids import EndpointId
from cilia.errors import Unavailable
from services.agent.endpoint.stages import (
    Restoration,
    check_repeated,
    link_of,
    new_pod,
    pending_step,
    restoration,
    security_labels,
    state_of,
)
from services.agent.errors import NameTaken
from services.agent.node.pool import Addresses
from tests.unit.agent.endpoint.node import request
from tests.unit.agent.endpoint.test_store import pod

WEB = replace(pod(7), ifindex=12)


@pytest.mark.parametrize(
    ("identity", "disconnecting", "in_force", "state"),
    [
        (0, False, False, EndpointState.WAITING_FOR_IDENTITY),
        (300, False, False, EndpointState.WAITING_FOR_POLICY),
        (300, False, True, EndpointState.READY),
        (300, True, True, EndpointState.DISCONNECTING),
        (0, True, False, EndpointState.DISCONNECTING),
    ],
)
def test_the_state_of_a_pod(identity: int, disconnecting: bool, in_force: bool, state: EndpointState) -> None:
    assert state_of(replace(WEB, identity=identity, disconnecting=disconnecting), in_force=in_force) is state


@pytest.mark.parametrize(
    ("disconnecting", "ifindex", "found"),
    [
        (False, 12, Restoration.KEEP),
        (False, 13, Restoration.CONNECT),
        (False, 0, Restoration.CONNECT),
        (True, 12, Restoration.DISCONNECT),
        (True, 0, Restoration.DISCONNECT),
    ],
)
def test_what_becomes_of_a_recorded_pod(disconnecting: bool, ifindex: int, found: Restoration) -> None:
    assert restoration(replace(WEB, disconnecting=disconnecting), ifindex) is found


def test_a_record_whose_link_was_never_made_is_connected() -> None:
    assert restoration(pod(7), 0) is Restoration.CONNECT


def test_labels_are_sorted_and_those_of_the_namespace_are_among_them() -> None:
    labels = security_labels("shop", {"tier": "front", "app": "web"}, {"team": "a"})
    assert labels == tuple(sorted(labels))
    assert {"k8s:app=web", "k8s:tier=front", "k8s:io.kubernetes.pod.namespace=shop"} <= set(labels)
    assert any(label.endswith("team=a") for label in labels)


@pytest.mark.parametrize(
    ("addresses", "gateways"),
    [
        (Addresses("10.1.0.2", "fd00::2"), (("10.1.0.2", "10.1.0.1"), ("fd00::2", "fd00::1"))),
        (Addresses("10.1.0.2", ""), (("10.1.0.2", "10.1.0.1"),)),
        (Addresses("", "fd00::2"), (("fd00::2", "fd00::1"),)),
    ],
)
def test_a_pod_has_a_gateway_of_each_family_that_it_has(
    addresses: Addresses, gateways: tuple[tuple[str, str], ...]
) -> None:
    of_the_node = Addresses("10.1.0.1", "fd00::1")
    asked = request("web", named_ports=(("http", "TCP", 80),))
    mac = "02:00:00:00:00:01"
    made = new_pod(EndpointId(7), asked, labels=(), addresses=addresses, gateways=of_the_node, mac=mac, netns_inode=9)
    assert made.gateways == gateways
    assert (made.host_interface, made.named_ports, made.identity) == ("lxc7", (("http", "TCP", 80),), 0)
    link = link_of(made, 1450)
    assert (link.gateways, link.mtu_bytes, link.netns) == (gateways, 1450, asked.netns)


def test_the_same_request_means_the_same_pod() -> None:
    check_repeated(WEB, request("web", netns=WEB.netns))


@pytest.mark.parametrize("other", [{"netns": "/run/netns/other"}, {"interface": "eth1"}])
def test_another_request_of_its_name_means_another_pod(other: dict[str, str]) -> None:
    with pytest.raises(NameTaken):
        check_repeated(WEB, request("web", **{"netns": WEB.netns, **other}))


def test_a_name_rests_while_its_row_is_withdrawn() -> None:
    with pytest.raises(Unavailable, match="identity is unavailable"):
        check_repeated(replace(WEB, disconnecting=True), request("web", netns=WEB.netns))


def test_a_pending_step_is_named_by_how_far_the_pod_is() -> None:
    assert pending_step(WEB) == "the policy of identity 300"
    assert pending_step(pod(7, identity=0)) == "its link and its identity"
