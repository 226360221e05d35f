"""Entries of the ipcache that somebody else changed are found by digest, mended and described."""

from collections.abc import Callable
from typing import Any

from cilia.contracts.ids import Identity
from services.agent.address import Prefix, number, prefix
from services.agent.drift.reporter import Drift
from services.agent.ipcache.desired import WORLD_LOCATIONS, Location
from services.agent.ipcache.drift import IpcacheDrift
from tests.unit.agent.ipcache.table import FakeIpcacheMap
from tests.unit.agent.ipcache.test_reconciler import POD, WEB, Agent


class Looker:
    """Drift of an agent whose tables are complete."""

    def __init__(self) -> None:
        self.agent = Agent(FakeIpcacheMap(WORLD_LOCATIONS))
        self.agent.reconciler.set_local([POD.address], WEB)
        self.agent.reconciler.write_now()
        assert sum(self.agent.reconciler.plan.complete()) == 0
        self.renewed = 0
        self.reads: list[str] = []
        self.during: Callable[[], None] = lambda: None
        self.drift = IpcacheDrift(self.agent.reconciler, self.agent.table, self._in_thread, self._renew_all)

    async def _in_thread(self, read: Callable[[], Any]) -> Any:
        self.reads.append(read.__name__)
        found = read()
        self.during()
        return found

    def _renew_all(self) -> None:
        self.renewed += 1


async def test_as_long_as_the_digest_is_right_no_entry_is_read() -> None:
    looker = Looker()
    assert await looker.drift.look() == []
    assert looker.reads == ["read_digest"]


async def test_changed_missing_and_foreign_entries_are_mended_and_described() -> None:
    looker = Looker()
    table, other = looker.agent.table, Prefix(number("10.1.0.77"))
    before = dict(table.kernel)
    table.kernel |= {POD: Location(4242), other: Location(1)}
    del table.kernel[prefix("0.0.0.0/0")]
    (drift,) = await looker.drift.look()
    assert drift.part == "ipcache"
    assert set(drift.differences) == {
        f"10.1.0.9/32 was {Location(4242)}, not {Location(WEB)}",
        f"10.1.0.77/32 was {Location(1)}, not missing",
        f"0.0.0.0/0 was missing, not {before[prefix('0.0.0.0/0')]}",
    }
    assert table.kernel == before
    assert await looker.drift.look() == []


async def test_only_changes_of_whole_networks_have_all_flows_decided_anew() -> None:
    looker = Looker()
    looker.agent.table.kernel[POD] = Location(4242)
    await looker.drift.look()
    assert looker.renewed == 0
    looker.agent.table.kernel[prefix("198.51.100.0/24")] = Location(1)
    await looker.drift.look()
    assert looker.renewed == 1


async def test_a_look_during_which_the_agent_writes_is_repeated() -> None:
    looker, identities = Looker(), iter([Identity(400), Identity(401)])

    def write() -> None:
        identity = next(identities, None)
        if identity is not None:
            looker.agent.reconciler.set_local([POD.address], identity)

    looker.during = write
    assert await looker.drift.look() == []
    assert looker.reads == ["read_digest"] * 3


async def test_a_look_that_is_always_disturbed_tells_nothing() -> None:
    looker, identity = Looker(), [400]

    def write() -> None:
        identity[0] += 1
        looker.agent.reconciler.set_local([POD.address], Identity(identity[0]))

    looker.during = write
    looker.agent.table.kernel[prefix("198.51.100.0/24")] = Location(1)
    assert await looker.drift.look() == []
    looker.during = lambda: None
    assert [type(each) for each in await looker.drift.look()] == [Drift]
