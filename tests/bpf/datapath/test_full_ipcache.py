"""The ipcache without room, as the agent writes it."""

from collections.abc import Iterator

import pytest

from services.agent.address import Prefix, ipv4_number, number
from services.agent.ipcache.desired import Location
from services.agent.ipcache.maps import IpcacheMap
from services.agent.ipcache.revisions import AddressRevisions
from tests.bpf.datapath.packets import tcp
from tests.bpf.datapath.rig import EGRESS, OTHER_NODE, SIZES, TC_ACT_REDIRECT, TC_ACT_SHOT, A, Node, R, node, populate

FIRST, SECOND, THIRD = (Prefix(number(f"10.9.0.{last}")) for last in (1, 2, 3))


@pytest.fixture
def here() -> Iterator[Node]:
    """Room for two entries more than the rig's own."""
    with node(max_entries=SIZES | {"cilia_ipcache": 64}) as made:
        populate(made)
        for last in range(64 - 2 - len(made.ipcache.items())):
            made.locate(f"10.8.0.{last}", 2000)
        yield made


@pytest.fixture
def maps(here: Node) -> Iterator[IpcacheMap]:
    revisions = AddressRevisions(here.objects)
    made = IpcacheMap(here.objects, revisions)
    yield made
    made.close()
    revisions.close()


def test_what_goes_makes_room_for_what_comes_with_it(maps: IpcacheMap) -> None:
    maps.write({FIRST: Location(5001), SECOND: Location(5002)})
    maps.write({THIRD: Location(5003), FIRST: None})
    held = maps.read()
    assert (FIRST in held, held[SECOND], held[THIRD]) == (False, Location(5002), Location(5003))


def test_what_was_written_before_there_was_no_room_holds_for_flows_that_stand(here: Node, maps: IpcacheMap) -> None:
    here.allow(A, EGRESS, identity=R.identity)
    assert here.run("from_pod", tcp(A, R), "lxc1").retval == TC_ACT_REDIRECT
    moved = {Prefix(number(R.address)): Location(R.identity + 1, ipv4_number(OTHER_NODE))}
    more = {FIRST: Location(1), SECOND: Location(2), THIRD: Location(3)}
    result = maps.write(moved | more)
    assert "full: 64 entries" in result.full
    assert result.left == {THIRD}
    assert here.run("from_pod", tcp(A, R), "lxc1").retval == TC_ACT_SHOT
