"""cilia_host_addresses follows the kernel's addresses, at once and through what others do to it."""

import errno
from collections.abc import Callable
from typing import Any

from cilia.abi.enums import HostAddressKind
from services.agent.address import number
from services.agent.host.addresses import HostAddresses
from services.agent.host.reconciler import HostAddressReconciler
from services.agent.netlink.addresses import DeviceAddress
from tests.unit.agent.host.test_addresses import on
from tests.unit.agent.loops import running, until
from tests.unit.agent.test_maptable import Table

OWN = HostAddressKind.OWN
FIRST, SECOND, STALE = number("192.0.2.10"), number("192.0.2.11"), number("192.0.2.99")


class Host:
    """A node whose addresses the tests set."""

    def __init__(self, *held: int, capacity: int = 100) -> None:
        self.present: list[DeviceAddress] = []
        self.addresses = HostAddresses()
        self.kernel = Table(cilia_host_addresses=capacity)
        self.kernel.table.write(dict.fromkeys(held, OWN))
        self.kernel.written.clear()
        self.told = 0
        self.refusals = 0
        self.reconciler = HostAddressReconciler(self.addresses, self.kernel.table, self.read, self.in_thread, self.tell)

    def read(self) -> tuple[list[DeviceAddress], frozenset[int]]:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.EAGAIN, "what was read changed all the time")
        return list(self.present), frozenset()

    async def in_thread(self, function: Callable[..., Any]) -> Any:
        return function()

    def tell(self) -> None:
        self.told += 1

    def has(self, *addresses: str) -> None:
        self.present = [on(f"{address}/32") for address in addresses]


def held(host: Host) -> set[int]:
    return set(host.kernel.table.read())


async def test_what_a_former_agent_left_goes_with_the_first_reading_and_the_rest_isnt_touched() -> None:
    host = Host(FIRST, STALE)
    host.has("192.0.2.10", "192.0.2.11")
    await host.reconciler.read()
    assert held(host) == {FIRST, SECOND}
    assert sorted(host.kernel.written) == sorted((SECOND, STALE))
    assert host.told == 1


async def test_a_notice_has_what_changed_written_and_nothing_else() -> None:
    host = Host()
    host.has("192.0.2.10")
    await host.reconciler.read()
    async with running(host.reconciler.run, host.reconciler.follow):
        host.kernel.written.clear()
        host.has("192.0.2.10", "192.0.2.11")
        host.reconciler.notice()
        await until(lambda: held(host) == {FIRST, SECOND})
        host.has("192.0.2.11")
        host.reconciler.notice()
        await until(lambda: held(host) == {SECOND})
        await until(lambda: host.told == 3)
    assert host.kernel.written == [SECOND, FIRST]


async def test_a_reading_that_the_kernel_refuses_is_repeated() -> None:
    host = Host()
    await host.reconciler.read()
    host.has("192.0.2.10")
    host.refusals = 2
    async with running(host.reconciler.run, host.reconciler.follow):
        host.reconciler.notice()
        await until(lambda: held(host) == {FIRST})


async def test_a_notice_of_no_change_changes_nothing() -> None:
    host = Host(FIRST)
    host.has("192.0.2.10")
    await host.reconciler.read()
    await host.reconciler.read()
    assert (host.kernel.written, host.told) == ([], 1)


async def test_a_notice_that_got_lost_is_made_good_by_the_next_look() -> None:
    host = Host()
    await host.reconciler.read()
    host.has("192.0.2.10")
    (drift,) = await host.reconciler.look()
    assert (drift.differences, held(host)) == ((), {FIRST})


async def test_what_somebody_else_wrote_is_mended_and_told() -> None:
    host = Host()
    host.has("192.0.2.10")
    await host.reconciler.read()
    host.kernel.table.write({FIRST: None, STALE: OWN})
    (drift,) = await host.reconciler.look()
    async with running(host.reconciler.run):
        await until(lambda: held(host) == {FIRST})
    assert drift.differences == ("192.0.2.10 was missing, not own", "192.0.2.99 was own, not missing")


async def test_a_full_map_is_an_error_until_there_is_room() -> None:
    host = Host(capacity=1)
    host.has("192.0.2.10", "192.0.2.11")
    await host.reconciler.read()
    assert "full: 1 entries" in host.reconciler.last_error
    host.has("192.0.2.11")
    await host.reconciler.read()
    assert held(host) == {SECOND}
    assert host.reconciler.last_error == ""
