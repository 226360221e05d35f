import msgspec

from cilia.contracts.ids import NodeName, Revision
from cilia.contracts.keys import Block, FormerGrant, Keys
from cilia.contracts.tables import NODES, POOLS, STALE_NODES, Node, Pool, Staleness
from cilia.owner.cache import RowChange
from services.ipam.cache import IpamCache, Mark

KEYS = Keys("test")
N1, N2 = NodeName("n1"), NodeName("n2")
R1 = Revision(1)
CIDR = "10.244.0.64/26"


def cache() -> IpamCache:
    made = IpamCache(KEYS)
    made.put(KEYS.block("default", CIDR), msgspec.json.encode(Block(CIDR, N1, "default")), R1)
    made.put(KEYS.former_grant(N1), msgspec.json.encode(FormerGrant((CIDR,))), R1)
    made.put(KEYS.node(N1), msgspec.json.encode(Node(N1, "192.0.2.1", pod_cidrs=(CIDR,))), R1)
    return made


def test_nodes_and_pools_become_rows_of_their_tables() -> None:
    node, pool = Node(N1, "192.0.2.1"), Pool("10.244.0.0/16", 26)
    fresh = IpamCache(KEYS)
    assert fresh.put(KEYS.node(N1), msgspec.json.encode(node), R1) == (RowChange(NODES, N1, node),)
    assert fresh.put(KEYS.pool("default"), msgspec.json.encode(pool), R1) == (RowChange(POOLS, "default", pool),)
    assert fresh.delete(KEYS.node(N1)) == (RowChange(NODES, N1, None),)
    assert fresh.delete(KEYS.pool("default")) == (RowChange(POOLS, "default", None),)


def test_the_mark_of_a_silent_node_is_a_row_of_its_own_table() -> None:
    some, mark = cache(), Staleness(7, 60.0)
    assert some.put(KEYS.stale_node(N1), msgspec.json.encode(mark), Revision(4)) == (RowChange(STALE_NODES, N1, mark),)
    assert some.stale == {N1: Mark(mark, Revision(4))}
    assert some.delete(KEYS.stale_node(N1)) == (RowChange(STALE_NODES, N1, None),)
    assert some.stale == {}
    assert list(some.nodes) == [N1]


def test_a_block_is_taken_until_its_key_goes() -> None:
    some = cache()
    assert some.taken("default") == {CIDR}
    some.delete(KEYS.block("default", CIDR))
    assert some.taken("default") == frozenset()


def test_what_an_absent_node_had_is_remembered_for_others_but_not_for_itself() -> None:
    some = cache()
    assert some.remembered(N2) == set()
    some.delete(KEYS.node(N1))
    some.delete(KEYS.block("default", CIDR))
    assert some.remembered(N2) == {CIDR}
    assert some.remembered(N1) == set()


def test_a_node_that_returns_regains_what_it_had_and_nobody_took() -> None:
    some = cache()
    some.put(KEYS.pool("default"), msgspec.json.encode(Pool("10.244.0.0/16", 26)), R1)
    some.put(KEYS.former_grant(N1), msgspec.json.encode(FormerGrant((CIDR, "10.244.0.128/26", "10.99.0.0/26"))), R1)
    assert some.regainable(N1) == ("10.244.0.128/26",)
    some.delete(KEYS.block("default", CIDR))
    assert some.regainable(N1) == (CIDR, "10.244.0.128/26")
    assert some.regainable(N2) == ()
    assert some.regainable(N2, ("10.244.1.0/26", "10.99.0.0/26")) == ("10.244.1.0/26",)
