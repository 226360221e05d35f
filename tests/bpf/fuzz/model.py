"""Model of the data plane: flows as a dictionary, policy as a search through all entries.

A flow remembers *what* it was decided under, revision by revision, where the programs keep one sum.
"""

from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address
from typing import Final, NamedTuple

from cilia.abi.enums import DropReason, Hook, PolicyDirection, PolicyLimit
from cilia.abi.structs import PolicyEntry, PolicyKey
from tests.bpf.datapath.rig import HOST, REMOTE_NODE, TC_ACT_OK, TC_ACT_SHOT, WORLD
from tests.bpf.fuzz import parsing
from tests.bpf.fuzz.neighbours import answer, control
from tests.bpf.fuzz.outcomes import End, Outcome, dropped, forwarded
from tests.bpf.fuzz.parsing import ECHOES, TCP, UDP, Header, Unreadable
from tests.bpf.fuzz.policy import Query, Version, consult

FIN, SYN, RST, ACK = 1, 2, 4, 16
ALLOCATED, SCOPED = 256, 1 << 24
NODE_SCOPE = 2
TUNNEL_PORT: Final = 8472
WRAP: Final = 1 << 32
NEAR: Final = 1 << 16
"""Bytes that a RST or FIN may be from what the other end has acknowledged."""
IN, OUT = PolicyDirection.INGRESS, PolicyDirection.EGRESS


@dataclass(slots=True)
class Traffic:
    packets: int = 0
    bytes: int = 0
    tcp_flags: int = 0
    acknowledged: int = 0
    fin: int = 0
    has_ended: bool = False
    """Its acknowledgements show that the other end has its FIN."""


class Basis(NamedTuple):
    """Basis of a decision: (slot, revision) of local ends, and changes of addresses' owners."""

    revisions: tuple[tuple[int, int], ...]
    owners: tuple[tuple[int, int], ...]


L4Address = tuple[int, int]
"""Address and port, or identifier of an echo."""


@dataclass(slots=True)
class Flow:
    initiator: L4Address
    ends: dict[L4Address, End]
    basis: Basis
    sent: dict[L4Address, Traffic]
    is_midway: bool = False
    """Its first segment had no SYN: either end may have begun it."""
    is_reset: bool = False
    denied: tuple[int, tuple[int, int, bool]] | None = None
    """Reason, and what the policy said."""
    decided_at: int = 0
    """Number of changes of the world before its decision."""

    @property
    def is_closed(self) -> bool:
        return self.is_reset or (len(self.sent) == 2 and all(one.has_ended for one in self.sent.values()))

    @property
    def is_ending(self) -> bool:
        return any(one.tcp_flags & FIN and not one.has_ended for one in self.sent.values())

    def reopens(self, sender: L4Address, header: Header) -> bool:
        """Tell whether a segment begins another connection in place of this one."""
        if header.tcp_flags & (SYN | ACK | FIN | RST) != SYN:
            return False
        return self.is_closed or self.is_midway or (self.initiator != sender and not self.denied)


FlowKey = tuple[L4Address, L4Address, int]


@dataclass
class Model:
    """A node; the caller fills the tables, and the model keeps the flows."""

    own: frozenset[int]
    gateway: int
    gateway6: int
    overlay: int
    pods: dict[int, End] = field(default_factory=dict)
    ipcache: dict[tuple[int, int], tuple[int, int, bool]] = field(default_factory=dict)
    """(address, length) -> (identity, tunnel, whether what is sent there doesn't enter it)."""
    current: dict[int, Version] = field(default_factory=dict)
    coming: dict[int, tuple[int, Version]] = field(default_factory=dict)
    """Slot -> (epoch from which it holds, version)."""
    epoch: int = 0
    entries: dict[PolicyKey, PolicyEntry] = field(default_factory=dict)
    owners: dict[int, int] = field(default_factory=dict)
    changes_made: int = 0
    flows: dict[FlowKey, Flow] = field(default_factory=dict)
    fragments: dict[tuple[int, int, int, int, int], tuple[int, int, int]] = field(default_factory=dict)
    """(source, destination, id, device, protocol) of fragmented packets -> ports, and the length of
    the first part.
    """

    def receive(self, frame: bytes, hook: Hook, ifindex: int) -> Outcome:
        """Say what becomes of a frame, and remember its flow."""
        if hook == Hook.FROM_OVERLAY:
            return dropped(frame, DropReason.NO_TUNNEL_KEY)
        try:
            if parsing.ethertype(frame) == parsing.ARP:
                return Outcome(TC_ACT_OK, frame) if hook == Hook.TO_POD else answer(self, frame, ifindex)
            header = self.complete(parsing.read(frame, hook), ifindex)
        except Unreadable as error:
            if error.reason == DropReason.UNKNOWN_ICMP_TYPE and error.icmp_type:
                return control(self, frame, hook, ifindex, error)
            return dropped(frame, error.reason)
        outcome = self.follow(frame, header, hook, ifindex)
        if not outcome.reason and header.fragment is not None and not header.start and not header.is_error:
            ports = header.source_port, header.destination_port
            self.fragments[fragment_key(header, ifindex)] = *ports, header.length
        return outcome

    def complete(self, header: Header, ifindex: int) -> Header:
        """Give a later fragment the ports of the first one.

        Raises:
            Unreadable: That one isn't known, or is overwritten.
        """
        if not header.start:
            return header
        sent = replace(header, source=header.destination, destination=header.source) if header.is_error else header
        sender = self.pods.get(sent.source) if header.is_error else None
        ports = self.fragments.get(fragment_key(sent, sender.ifindex if sender else ifindex))
        if ports is None:
            raise Unreadable(DropReason.FRAGMENT_UNKNOWN)
        if header.is_error:
            return replace(header, source_port=ports[1], destination_port=ports[0])
        if header.start < ports[2]:
            raise Unreadable(DropReason.INVALID_FRAGMENT)
        kind = 0
        if header.protocol in ECHOES:
            kind = ECHOES[header.protocol][0 if ports[0] else 1]
        return replace(header, source_port=ports[0], destination_port=ports[1], icmp_type=kind)

    def follow(self, frame: bytes, header: Header, hook: Hook, ifindex: int) -> Outcome:
        """Pass what belongs to a flow that is known and current; decide about the rest."""
        key, sender, receiver = flow_key_of(header)
        flow = self.flows.get(key)
        came_from = ifindex if hook == Hook.FROM_POD else 0
        if hook == Hook.FROM_POD and header.protocol == UDP and header.destination_port == TUNNEL_PORT:
            came_from = -1
        reopens = flow is not None and flow.reopens(sender, header)
        if flow and not reopens and self.device(flow.ends[sender]) == came_from:
            if flow.denied and flow.decided_at == self.changes_made:
                return dropped(frame, flow.denied[0])
            if not flow.denied and self.holds(flow.basis):
                account(flow, sender, receiver, header, frame)
                return forwarded(frame, hook, flow.ends[receiver])
        if header.is_error:
            return dropped(frame, DropReason.CT_INVALID)
        return self.decide(frame, header, hook, ifindex, former=None if reopens else flow)

    def device(self, end: End) -> int:
        return self.overlay if end.tunnel else end.ifindex

    def decide(self, frame: bytes, header: Header, hook: Hook, ifindex: int, former: Flow | None) -> Outcome:
        key, sender, receiver = flow_key_of(header)
        source, target = self.find(header.source), self.find(header.destination)
        if hook == Hook.FROM_POD and (not source.ifindex or source.ifindex != ifindex):
            return dropped(frame, DropReason.INVALID_SOURCE)
        if hook == Hook.FROM_POD and frame[6:12] != source.mac:
            return dropped(frame, DropReason.INVALID_MAC)
        if hook == Hook.FROM_POD and header.protocol == UDP and header.destination_port == TUNNEL_PORT:
            return dropped(frame, DropReason.ENCAP_PROHIBITED)
        if hook == Hook.TO_POD and not source.identity:
            return dropped(frame, DropReason.MARTIAN)
        if hook == Hook.TO_POD and (source.ifindex or source.tunnel):
            return dropped(frame, DropReason.INVALID_SOURCE)
        if hook == Hook.TO_POD and target.ifindex != ifindex:
            return dropped(frame, DropReason.NO_ENDPOINT)
        if not target.identity:
            return dropped(frame, DropReason.MARTIAN)
        if not target.ifindex and not target.tunnel and ALLOCATED <= target.identity < SCOPED:
            return dropped(frame, DropReason.NO_ENDPOINT)
        if former is None and header.protocol in ECHOES and header.icmp_type == ECHOES[header.protocol][1]:
            return dropped(frame, DropReason.CT_INVALID)
        if former and former.ends[receiver].tunnel and not target.ifindex and not target.tunnel:
            target = self.recall(former.ends[receiver], target)
        initiator = former.initiator if former else sender
        ends = {receiver: target, sender: source}
        responder = sender if initiator == receiver and sender != receiver else receiver
        begins = header.protocol != TCP or header.tcp_flags & (SYN | ACK | FIN | RST) == SYN
        is_midway = former.is_midway if former else not begins
        reason, judged = self.judge(ends[initiator], ends[responder], header.protocol, responder[1])
        if is_midway and not reason:
            reason, judged = self.judge_other_way(ends, initiator, responder, header.protocol, judged)
        if not former and reason:
            return Outcome(TC_ACT_SHOT, frame, reason, True, (source, target), judged)
        sent = former.sent if former else {sender: Traffic(), receiver: Traffic()}
        flow = Flow(initiator, ends, self.basis(source, target), sent, is_midway, decided_at=self.changes_made)
        flow.is_reset = former.is_reset if former else False
        self.flows[key] = flow
        if reason:
            assert judged
            flow.denied = reason, judged
            return Outcome(TC_ACT_SHOT, frame, reason, True, (source, target), judged)
        account(flow, sender, receiver, header, frame)
        return replace(forwarded(frame, hook, target), is_reported=True, ends=(source, target), judged=judged)

    def find(self, address: int) -> End:
        """Say who has an address: a pod here, this host, or by the longest prefix someone
        elsewhere.
        """
        if address in self.pods:
            return self.pods[address]
        if address in self.own:
            return End(address, HOST)
        if is_martian(address):
            return End(address, 0)
        for length in range(128, -1, -1):
            prefix = address >> (128 - length) << (128 - length)
            if (prefix, length) in self.ipcache:
                identity, tunnel, routed = self.ipcache[prefix, length]
                return End(address, identity, tunnel=0 if routed else tunnel)
        return End(address, WORLD)

    def recall(self, known: End, target: End) -> End:
        """Say who a remote end is whose packets came by the tunnel, if its node has it still."""
        for length in range(128, -1, -1):
            prefix = target.address >> (128 - length) << (128 - length)
            if (prefix, length) in self.ipcache:
                identity, tunnel, _ = self.ipcache[prefix, length]
                is_node = identity == REMOTE_NODE or identity >> 24 == NODE_SCOPE
                if tunnel != known.tunnel:
                    return target
                return replace(target, identity=target.identity if is_node else known.identity, tunnel=tunnel)
        return target

    def version(self, slot: int) -> Version | None:
        """Return what is in force for a slot; None: nothing, so that everything is denied."""
        version = self.current.get(slot)
        if slot in self.coming and self.epoch >= self.coming[slot][0]:
            version = self.coming[slot][1]
        return version if slot and version and version.revision else None

    def basis(self, *ends: End) -> Basis:
        versions = [(end.slot, self.version(end.slot)) for end in ends if end.ifindex]
        revisions = tuple((slot, version.revision) for slot, version in versions if version)
        return Basis(revisions, tuple((end.address, self.changes(end.address)) for end in ends))

    def changes(self, address: int) -> int:
        return self.owners.get(address % PolicyLimit.ADDRESS_BUCKETS, 0)

    def holds(self, basis: Basis) -> bool:
        """Tell whether nothing has changed on which a decision rests."""
        for slot, revision in basis.revisions:
            version = self.version(slot)
            if not version or version.revision != revision:
                return False
        return all(self.changes(address) == count for address, count in basis.owners)

    def judge(
        self, initiator: End, responder: End, protocol: int, port: int
    ) -> tuple[int, tuple[int, int, bool] | None]:
        """Consult each local end's policy: the initiator's egress, then the responder's ingress."""
        port = ECHOES[protocol][0] if protocol in ECHOES else port
        sides = [(initiator, responder, OUT), (responder, initiator, IN)]
        local = [side for side in sides if side[0].ifindex]
        for local_end, _, direction in local:
            if not self.version(local_end.slot):
                return DropReason.POLICY_NOT_READY, (direction, 0, False)
        audited, cookie, direction = False, 0, OUT
        for local_end, peer, direction in local:
            version = self.version(local_end.slot)
            assert version
            query = Query(local_end.slot, peer.identity, direction, protocol, port)
            reason, cookie, is_audited = consult(self.entries, version, query)
            audited |= is_audited
            if reason:
                return reason, (direction, cookie, audited)
        return 0, (direction, cookie, audited)

    def judge_other_way(
        self,
        ends: dict[L4Address, End],
        initiator: L4Address,
        responder: L4Address,
        protocol: int,
        first: tuple[int, int, bool] | None,
    ) -> tuple[int, tuple[int, int, bool] | None]:
        """Consult the policies once more, as if the responder had begun."""
        reason, judged = self.judge(ends[responder], ends[initiator], protocol, initiator[1])
        if first and judged:
            judged = judged[0], judged[1], first[2] or judged[2]
        return DropReason.CT_MIDWAY if reason else 0, judged


def flow_key_of(header: Header) -> tuple[FlowKey, L4Address, L4Address]:
    """Return a flow's key, the sender's address and port, and the receiver's."""
    sender, receiver = (header.source, header.source_port), (header.destination, header.destination_port)
    if header.protocol in ECHOES and not sender[1] and not receiver[1]:  # 0 stands as 65535, to tell who asked
        if header.icmp_type == ECHOES[header.protocol][0]:
            sender = header.source, 0xFFFF
        else:
            receiver = header.destination, 0xFFFF
    low, high = sorted((sender, receiver))
    return (low, high, header.protocol), sender, receiver


def is_martian(address: int) -> bool:
    """Tell whether no single host has an address (RFC 6890; RFC 4291, 2.4)."""
    each = IPv6Address(address)
    if each.ipv4_mapped:
        first = each.ipv4_mapped.packed[0]
        return first in (0, 127) or first >= 224
    return each.is_multicast or each.is_loopback or each.is_unspecified or each.is_link_local


def fragment_key(header: Header, ifindex: int) -> tuple[int, int, int, int, int]:
    return header.source, header.destination, header.fragment or 0, ifindex, header.protocol


def account(flow: Flow, sender: L4Address, receiver: L4Address, header: Header, frame: bytes) -> None:
    """Count a packet, and follow what it says of its connection's end."""
    traffic = flow.sent[sender]
    other = flow.sent[receiver] if receiver != sender else Traffic()
    traffic.packets += 1
    traffic.bytes += len(frame)
    if header.tcp_flags & RST:
        expected = (header.sequence - other.acknowledged) % WRAP < NEAR
        flow.is_reset |= expected or not other.tcp_flags & ACK
    elif header.tcp_flags:
        flow.is_reset = False
    if header.tcp_flags & FIN and not traffic.has_ended:
        traffic.fin = header.sequence
    if header.tcp_flags & ACK:
        traffic.acknowledged = header.acknowledged
    traffic.tcp_flags |= header.tcp_flags
    for mine, theirs in ((traffic, other), (other, traffic)):
        if mine.tcp_flags & FIN and theirs.tcp_flags & ACK:
            mine.has_ended |= (theirs.acknowledged - mine.fin + NEAR) % WRAP < 2 * NEAR
