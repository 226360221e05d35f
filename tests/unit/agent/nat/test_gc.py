"""Mappings of masqueraded flows go with their flow, at the second sweep that finds them unused."""

import pytest

from cilia.abi import maps
from cilia.abi.structs import Ct4Key, Ct6Key, CtEntry, CtSide, NatEntry, NatKey, NatTurn
from cilia.datapath.clock import TICKS_PER_SECOND, TICKS_WRAP
from cilia.datapath.errors import MapError
from services.agent.address import number, packed
from services.agent.nat.gc import NODE_ECHO_SECONDS, NatGc, flow_of, other_half
from tests.unit.agent.maps import FakeObjects

POD, NODE, WORLD = (packed(number(address)) for address in ("10.1.0.5", "192.0.2.1", "198.51.100.7"))
KEY = NatKey(WORLD, POD, 443, 40_000, 6, 0)
VALUE = NatEntry(7, 0, 1, 5, 61_000, NODE, 0)
SIDE = CtSide(1, 60, 0, 0, 0, 0, bytes(6), 0, 0, 0)
ENTRY = CtEntry(1, (1, 0), (0, 0), (300, 301), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, (0, 0), (SIDE, SIDE))


class Table:
    """cilia_nat and the flows beside it."""

    def __init__(self) -> None:
        objects = FakeObjects()
        self.now = 0
        self.gc = NatGc(objects.loaded, 30.0, lambda: self.now)
        self.nat, self.turns = objects.map(maps.NAT), objects.map(maps.NAT_TURNS)
        self.ct4, self.ct6 = objects.map(maps.CT4), objects.map(maps.CT6)

    def enter(self, key: NatKey = KEY, value: NatEntry = VALUE, *, flow: bool = True) -> None:
        """Enter both halves of a mapping, and its flow."""
        back = value._replace(address=key.local, port=key.local_port)
        self.nat.held |= {key: value, other_half(key, value): back}
        self.turns.held[NatTurn(value.number, value.endpoint)] = key
        if flow:
            self.remember(key)

    def remember(self, key: NatKey = KEY) -> None:
        known = flow_of(key)
        if isinstance(known, Ct4Key):
            self.ct4.held[known] = ENTRY
        else:
            self.ct6.held[known] = ENTRY


@pytest.fixture
def table() -> Table:
    return Table()


def test_a_flow_has_its_lower_end_first_whichever_way_it_went() -> None:
    there = flow_of(KEY)
    back = flow_of(NatKey(POD, WORLD, 40_000, 443, 6, 0))
    assert (
        there
        == back
        == Ct4Key((number("10.1.0.5") & 0xFFFFFFFF, number("198.51.100.7") & 0xFFFFFFFF), (40_000, 443), 6)
    )


def test_a_flow_of_ipv6_is_one_of_the_other_table() -> None:
    low, high = packed(number("2001:db8::1")), packed(number("fd00::5"))
    assert flow_of(NatKey(high, low, 40_000, 443, 17, 0)) == Ct6Key((low, high), (443, 40_000), 17)


@pytest.mark.parametrize(("identifier", "port"), [(0, 0xFFFF), (77, 77)])
def test_an_echo_has_its_identifier_at_the_end_that_asked(identifier: int, port: int) -> None:
    assert flow_of(NatKey(WORLD, POD, 0, identifier, 1, 0)).port == (port, 0)


def test_ends_of_one_address_are_ordered_by_port() -> None:
    assert flow_of(NatKey(POD, POD, 9, 8, 6, 0)) == flow_of(NatKey(POD, POD, 8, 9, 6, 0))


def test_each_half_of_a_mapping_leads_to_the_other() -> None:
    other = other_half(KEY, VALUE)
    assert (other.local, other.local_port, other.is_reply) == (NODE, 61_000, 1)
    assert other_half(other, VALUE._replace(address=POD, port=40_000)) == KEY


async def test_a_mapping_stays_as_long_as_its_flow(table: Table) -> None:
    table.enter()
    for _ in range(3):
        await table.gc.sweep()
    assert len(table.nat.held) == table.gc.entries == 2
    assert table.gc.mappings == len(table.turns.held)
    assert table.gc.counters.removed == 0


async def test_both_halves_go_at_the_second_sweep_without_the_flow(table: Table) -> None:
    table.enter(flow=False)
    await table.gc.sweep()
    assert len(table.nat.held) == 2
    await table.gc.sweep()
    assert table.nat.held == {}
    assert table.turns.held == {}, "its turn goes with it"
    assert table.gc.counters.removed == 2


async def test_a_flow_that_returns_between_two_sweeps_keeps_its_mapping(table: Table) -> None:
    table.enter(flow=False)
    await table.gc.sweep()
    table.remember()
    await table.gc.sweep()
    table.ct4.held.clear()
    await table.gc.sweep()
    assert len(table.nat.held) == 2, "it counts anew"


@pytest.mark.parametrize("gone", [0, 1])
async def test_a_half_without_the_other_goes_at_the_second_sweep(table: Table, gone: int) -> None:
    table.enter()
    del table.nat.held[list(table.nat.held)[gone]]
    await table.gc.sweep()
    assert len(table.nat.held) == 1
    await table.gc.sweep()
    assert table.nat.held == {}


async def test_a_half_whose_other_half_belongs_to_another_mapping_is_no_whole(table: Table) -> None:
    table.enter()
    table.nat.held[other_half(KEY, VALUE)] = VALUE._replace(address=POD, port=40_001)
    for _ in range(2):
        await table.gc.sweep()
    assert table.nat.held == {}


async def test_mappings_that_come_and_go_during_a_sweep_do_no_harm(table: Table) -> None:
    for port in range(40_000, 40_300):
        table.enter(KEY._replace(local_port=port), VALUE._replace(port=port), flow=port % 2 == 0)

    def churn() -> None:
        table.nat.held.pop(next(iter(table.nat.held)), None)

    table.nat.between_batches = churn
    await table.gc.sweep()
    table.nat.between_batches = lambda: None
    await table.gc.sweep()
    await table.gc.sweep()
    assert {key.local_port % 2 for key in table.nat.held if not key.is_reply} == {0}


async def test_a_refused_read_ends_the_sweep_and_the_next_goes_on(table: Table) -> None:
    table.enter(flow=False)
    await table.gc.sweep()
    table.nat.refusals = 1
    with pytest.raises(MapError):
        await table.gc.sweep()
    await table.gc.sweep()
    assert table.nat.held == {}


@pytest.mark.parametrize("now", [5, (5 + NODE_ECHO_SECONDS * TICKS_PER_SECOND) % TICKS_WRAP, TICKS_WRAP - 1])
async def test_an_echo_of_the_node_stays_while_it_is_used(table: Table, now: int) -> None:
    table.nat.held[KEY._replace(is_reply=1)] = VALUE._replace(checked=5, is_node=1, endpoint=0)
    table.now = now
    await table.gc.sweep()
    assert len(table.nat.held) == 1


async def test_an_echo_of_the_node_goes_once_it_has_idled(table: Table) -> None:
    table.nat.held[KEY._replace(is_reply=1)] = VALUE._replace(checked=TICKS_WRAP - 5, is_node=1, endpoint=0)
    table.now = NODE_ECHO_SECONDS * TICKS_PER_SECOND
    await table.gc.sweep()
    assert table.nat.held == {}
