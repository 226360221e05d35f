"""Desired entries of cilia_blocks: the node of each block of other nodes' pods.

Pure. A pod that the ipcache doesn't know yet may send by that node's tunnel and by no other. Where
two rows claim a block (it is granted again before its former holder's row is gone), the newer wins.
"""

from collections.abc import Iterable, Mapping

from cilia.contracts.ids import NodeName
from cilia.contracts.tables import Node
from services.agent.address import Prefix, ipv4_number
from services.agent.address import prefix as parse_prefix


class Blocks:
    """Desired blocks, each with the IPv4 address of its node's tunnel, kept up to date row by row.

    Args:
        node: This node, whose own pods come by no tunnel.
        tunnels: Whether pods of other nodes are behind tunnels; without, nothing is desired.
    """

    def __init__(self, node: NodeName, *, tunnels: bool) -> None:
        self._node = node
        self._tunnels = tunnels
        self._rows: dict[NodeName, Node] = {}
        self._holders: dict[Prefix, list[NodeName]] = {}
        self._changed: set[Prefix] = set()
        self.desired: dict[Prefix, int] = {}

    def take_changes(self) -> set[Prefix]:
        """Return the blocks whose node changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def feed(self, upserts: Mapping[NodeName, Node], removes: Iterable[NodeName]) -> None:
        """Take changes of the table of nodes."""
        if not self._tunnels:
            return
        for name in (*removes, *upserts):
            old, new = self._rows.pop(name, None), upserts.get(name)
            if new is not None:
                self._rows[name] = new
            before, after = _blocks(old), _blocks(new)
            for block in before - after:
                self._holders[block].remove(name)
            for block in after - before:
                self._holders.setdefault(block, []).append(name)
            for block in before | after:
                self._update(block)

    def _update(self, block: Prefix) -> None:
        holders = self._holders.get(block)
        if not holders:
            self._holders.pop(block, None)
        wanted = ipv4_number(self._rows[holders[-1]].ipv4) if holders and holders[-1] != self._node else None
        if wanted == self.desired.get(block):
            return
        if wanted is None:
            del self.desired[block]
        else:
            self.desired[block] = wanted
        self._changed.add(block)


def _blocks(row: Node | None) -> set[Prefix]:
    return {parse_prefix(cidr) for cidr in row.pod_cidrs} if row else set()
