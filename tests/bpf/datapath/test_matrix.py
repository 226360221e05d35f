"""Every way in and out of a pod, in both families, by every protocol, under every verdict."""

from typing import NamedTuple

import pytest

from cilia.abi.enums import DropReason, EventKind
from tests.bpf.datapath.packets import ECHO, echo, tcp, udp
from tests.bpf.datapath.rig import (
    A6,
    B6,
    EGRESS,
    GATEWAY_MAC,
    HOST,
    INGRESS,
    NODE,
    NODE6,
    R6,
    TC_ACT_OK,
    TC_ACT_REDIRECT,
    TC_ACT_SHOT,
    W6,
    A,
    B,
    Node,
    Pod,
    R,
    W,
)

FAMILIES = {
    "IPv4": {"A": A, "B": B, "remote": R, "host": Pod(NODE, HOST), "world": W},
    "IPv6": {"A": A6, "B": B6, "remote": R6, "host": Pod(NODE6, HOST), "world": W6},
}


class Way(NamedTuple):
    """A path of packets: sender, receiver, program, and the action for what may pass."""

    source: str
    target: str
    program: str
    device: str
    action: int
    delivered: bool = False


WAYS = {
    "to a pod here": Way("A", "B", "from_pod", "lxc1", TC_ACT_REDIRECT, delivered=True),
    "to a pod elsewhere": Way("A", "remote", "from_pod", "lxc1", TC_ACT_REDIRECT),
    "to the host": Way("A", "host", "from_pod", "lxc1", TC_ACT_OK),
    "to the world": Way("A", "world", "from_pod", "lxc1", TC_ACT_OK),
    "from the host": Way("host", "B", "to_pod", "lxc2", TC_ACT_OK),
    "from the world by the stack": Way("world", "B", "to_pod", "lxc2", TC_ACT_OK),
    "from the world by the uplink": Way("world", "B", "from_uplink", "uplink", TC_ACT_REDIRECT, delivered=True),
}
PROTOCOLS = {"tcp": (tcp, 6, 80), "udp": (udp, 17, 53), "echo": (echo, 0, 0)}


class Verdict(NamedTuple):
    """Rules for the peer, and the verdict that they give."""

    reason: int = 0
    audited: bool = False
    rule: bool = True
    deny: bool = False
    audit_rule: bool = False
    audit_subject: bool = False


VERDICTS = {
    "allowed": Verdict(),
    "no rule": Verdict(DropReason.POLICY_DENIED, rule=False),
    "denied": Verdict(DropReason.DENIED_BY_RULE, deny=True),
    "denied by an audited rule": Verdict(audited=True, deny=True, audit_rule=True),
    "no rule, audited": Verdict(audited=True, rule=False, audit_subject=True),
    "not realised": Verdict(DropReason.POLICY_NOT_READY),
}


def rules(here: Node, way: Way, names: dict[str, Pod], protocol: int, port: int, verdict: Verdict) -> None:
    """Write what each local end's policy says of the other, and put it in force."""
    source, target = names[way.source], names[way.target]
    for pod, peer, direction in ((source, target, EGRESS), (target, source, INGRESS)):
        if not pod.slot:
            continue
        if verdict.rule:
            here.allow(pod, direction, peer.identity, protocol, port, deny=verdict.deny, audit=verdict.audit_rule)
        revision = 0 if verdict.reason == DropReason.POLICY_NOT_READY else 2
        here.realise(pod.slot, revision, audit=verdict.audit_subject)


@pytest.mark.parametrize("verdict", VERDICTS.values(), ids=VERDICTS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_first_packet(here: Node, family: str, way: Way, protocol: str, verdict: Verdict) -> None:
    names = FAMILIES[family]
    make, number, port = PROTOCOLS[protocol]
    if make is echo:
        number, port = (1, ECHO) if family == "IPv4" else (58, 128)
    rules(here, way, names, number, port, verdict)
    source, target = names[way.source], names[way.target]
    frame = make(source, target)
    ran = here.run(way.program, frame, way.device)
    (event,) = here.events()
    flows = here.flows.items() if family == "IPv4" else here.flows6.items()
    if verdict.reason:
        assert (ran.retval, ran.packet) == (TC_ACT_SHOT, frame)
        assert (event.kind, event.reason) == (EventKind.DROP, verdict.reason)
        assert flows == []
        return
    head = target.mac + GATEWAY_MAC if way.delivered else frame[:12]
    assert (ran.retval, ran.packet) == (way.action, head + frame[12:])
    assert (event.kind, event.reason, bool(event.audited)) == (EventKind.VERDICT, 0, verdict.audited)
    assert event.identity == (source.identity, target.identity)
    ((_, entry),) = flows
    assert sum(side.packets for side in entry.side) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_known_flow_goes_on_without_a_report_until_its_policy_denies_it(
    here: Node, family: str, way: Way, protocol: str
) -> None:
    names = FAMILIES[family]
    make, number, port = PROTOCOLS[protocol]
    if make is echo:
        number, port = (1, ECHO) if family == "IPv4" else (58, 128)
    rules(here, way, names, number, port, VERDICTS["allowed"])
    frame = make(names[way.source], names[way.target])
    here.run(way.program, frame, way.device)
    here.events()
    assert here.run(way.program, frame, way.device, repeat=3).retval == way.action
    assert here.events() == []
    rules(here, way, names, number, port, VERDICTS["denied"])
    for pod in (names[way.source], names[way.target]):
        if pod.slot:
            here.realise(pod.slot, 3)
    assert here.run(way.program, frame, way.device).retval == TC_ACT_SHOT
    assert [event.reason for event in here.events()] == [DropReason.DENIED_BY_RULE]
