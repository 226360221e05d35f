"""Non-masquerade CIDRs: networks towards which pods keep their own addresses.

Pure. Settings and the pods' networks of the table of nodes in, entries of cilia_non_masquerade out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from cilia.contracts.ids import NodeName
from cilia.contracts.tables import Node
from services.agent.address import Prefix, prefix


class NonMasqueradeCidrs:
    """Desired prefixes, kept up to date row by row.

    Args:
        configured: CIDRs of the settings, which stay whatever nodes come and go.
    """

    def __init__(self, configured: Iterable[str]) -> None:
        self._claims = Counter(prefix(cidr) for cidr in configured)
        self._blocks: dict[NodeName, tuple[Prefix, ...]] = {}
        self._changed = set(self._claims)

    @property
    def desired(self) -> Mapping[Prefix, int]:
        """Desired prefixes, each with the number of settings and nodes that claim it."""
        return self._claims

    def feed(self, upserts: Mapping[NodeName, Node], removes: Iterable[NodeName]) -> None:
        """Take changes of the table of nodes."""
        for name in (*removes, *upserts):
            row = upserts.get(name)
            old, new = self._blocks.pop(name, ()), tuple(map(prefix, row.pod_cidrs)) if row else ()
            if new:
                self._blocks[name] = new
            self._claims.update(new)
            for block in old:
                self._claims[block] -= 1
                if not self._claims[block]:
                    del self._claims[block]
            self._changed.update(set(old) ^ set(new))

    def take_changes(self) -> set[Prefix]:
        """Return the prefixes that came or went since the last call, and perhaps more."""
        changed, self._changed = self._changed, set()
        return changed
