"""cilia_ipcache in memory, with a capacity, a digest, and others who write to it."""

from collections.abc import Mapping

from cilia.reconcile.plan import Differences, WriteResult
from services.agent.address import Prefix
from services.agent.ipcache.desired import Location


class FakeIpcacheMap:
    """Map of the ipcache; ``kernel`` is what the programs see."""

    def __init__(self, kernel: Mapping[Prefix, Location] | None = None, capacity: int = 1000) -> None:
        self.kernel = dict(kernel or {})
        self.capacity = capacity
        self.entries = dict(self.kernel)
        self.digest = self.read_digest()
        self.writes = 0
        self.written: list[dict[Prefix, Location | None]] = []

    def read(self) -> dict[Prefix, Location]:
        return dict(self.kernel)

    def read_digest(self) -> int:
        return _digest_of(self.kernel)

    def adopt(self, differences: Differences[Prefix, Location]) -> None:
        for prefix, (present, written) in differences.items():
            self.digest += _digest_of({} if present is None else {prefix: present})
            self.digest -= _digest_of({} if written is None else {prefix: written})

    def write(self, changes: Mapping[Prefix, Location | None]) -> WriteResult[Prefix]:
        self.written.append(dict(changes))
        self.writes += 1
        left = []
        after = dict(self.entries)
        for prefix, location in sorted(changes.items(), key=lambda each: each[1] is not None):
            if location is None:
                self.kernel.pop(prefix, None)
                after.pop(prefix, None)
            elif prefix in self.kernel or len(self.kernel) < self.capacity:
                self.kernel[prefix] = after[prefix] = location
            else:
                left.append(prefix)
        self.digest = _digest_of(after)
        return WriteResult(full=f"cilia_ipcache: full at {self.capacity}" if left else "", left=left)


def _digest_of(entries: Mapping[Prefix, Location]) -> int:
    return sum(map(hash, entries.items()))
