"""Verdicts: what the data plane makes of a packet under a map state (bpf/maps/policy.h)."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from cilia.contracts.ids import Identity
from cilia.contracts.tables import PolicyEntry, PolicyKey
from cilia.policy.engine.mapstate import ANY_PEER, DENY


@dataclass(frozen=True, slots=True)
class Verdict:
    """Verdict on a packet, and the entry that gives it; ``key`` is None when nothing matches
    (default deny).
    """

    allowed: bool
    """It passes; also if it does so only since its denial is ``audited``."""
    key: PolicyKey | None = None
    entry: PolicyEntry | None = None

    @property
    def audited(self) -> bool:
        """Tell whether it would be denied, were it not for an audit."""
        return self.entry is not None and self.entry.audit

    @property
    def cookie(self) -> int:
        """Number of the policy that decided; 0 for a default."""
        return self.entry.cookie if self.entry else 0


Found = tuple[PolicyKey, PolicyEntry]
DEFAULT_DENY = Verdict(False)


class StateLookup:
    """Map state in the form in which many packets are looked up.

    Like the data plane it probes for the lengths of prefix that are in use, and for no others.
    """

    def __init__(self, state: Mapping[PolicyKey, PolicyEntry]) -> None:
        self._entries: defaultdict[tuple[bool, int], dict[tuple[int, int, int], Found]] = defaultdict(dict)
        for key, entry in state.items():
            found = self._entries[key.egress, key.identity]
            found[key.protocol, key.port, key.port_bits] = key, entry
        lengths = {key.port_bits for key in state if key.protocol}
        self._masks = [(bits, ~(0xFFFF >> bits)) for bits in sorted(lengths, reverse=True)]

    def decide(self, peer: Identity, *, egress: bool, protocol: int, port: int) -> Verdict:
        """Look a packet up.

        Args:
            peer: Identity of the other party.
            port: Destination port, or ICMP type.
        """
        own = self._longest(self._set_of(peer, egress), egress, protocol, port)
        if own is not None and own[1].precedence == DENY:  # nothing overrules it, so the search ends
            return Verdict(own[1].audit, *own)
        other = self._longest(ANY_PEER, egress, protocol, port)
        if own is None or (other is not None and _rank(other) > _rank(own)):
            own = other
        if own is None:
            return DEFAULT_DENY
        return Verdict(not own[1].deny or own[1].audit, *own)

    def _longest(self, identity: Identity, egress: bool, protocol: int, port: int) -> Found | None:
        entries = self._entries.get((egress, identity))
        if entries is None:
            return None
        if protocol:
            for bits, mask in self._masks:
                found = entries.get((protocol, port & mask, bits))
                if found is not None:
                    return found
        return entries.get((0, 0, 0))

    def _set_of(self, peer: Identity, egress: bool) -> Identity:
        """Return the set that a peer is a member of; itself if it has entries of its own."""
        found = self._entries.get((egress, peer), {}).get((0, 0, 0))
        return Identity(found[1].peer_set) if found is not None and found[1].peer_set else peer


def decide(
    state: Mapping[PolicyKey, PolicyEntry], peer: Identity, *, egress: bool, protocol: int, port: int
) -> Verdict:
    """Look one packet up; for many, :class:`StateLookup` is prepared once."""
    return StateLookup(state).decide(peer, egress=egress, protocol=protocol, port=port)


def _rank(found: Found) -> tuple[int, int, int, bool]:
    key, entry = found
    return entry.precedence, min(key.protocol, 1), key.port_bits, key.identity != ANY_PEER
