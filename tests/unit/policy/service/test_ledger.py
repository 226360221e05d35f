from cilia.contracts.ids import Identity, NodeName, Revision
from cilia.contracts.realisation import Acknowledgement, NodeRealised
from services.policy.realisation.ledger import REMEMBERED_CHANGES, REMEMBERED_IDENTITIES, RealisationLedger

WEB, DB = Identity(300), Identity(301)
N1, N2 = NodeName("n1"), NodeName("n2")
COUNTS = {WEB: {N1: 2, N2: 1}, DB: {N2: 3}}
MS = 1_000_000


def ack(node: NodeName, at_ms: int, **subjects: int) -> Acknowledgement:
    covered = {Identity(int(name[1:])): Revision(sequence) for name, sequence in subjects.items()}
    return Acknowledgement(node, covered, endpoints=1, realised_ns=at_ms * MS)


def test_a_revision_is_complete_once_every_concerned_node_acknowledged_it() -> None:
    ledger = RealisationLedger()
    ledger.change(Revision(10), [WEB], accepted_ns=100 * MS, stored_ns=102 * MS)
    ledger.acknowledge(ack(N1, 105, i300=10))
    partly = ledger.progress(Revision(10), COUNTS)
    assert not partly.complete
    assert partly.nodes == (NodeRealised(N1, endpoints=2, milliseconds=5.0),)
    assert partly.stragglers == (N2,)
    assert partly.storing_milliseconds == 2.0
    ledger.acknowledge(ack(N2, 109, i300=10))
    assert ledger.progress(Revision(10), COUNTS).complete


def test_a_node_is_as_late_as_its_last_subject() -> None:
    ledger = RealisationLedger()
    ledger.change(Revision(10), [WEB, DB], accepted_ns=100 * MS)
    ledger.acknowledge(ack(N2, 103, i300=10))
    assert N2 in ledger.progress(Revision(10), COUNTS).stragglers
    ledger.acknowledge(ack(N2, 120, i301=10))
    assert ledger.progress(Revision(10), COUNTS).nodes == (NodeRealised(N2, 4, 20.0),)


def test_one_node_is_told_by_itself() -> None:
    ledger = RealisationLedger()
    ledger.change(Revision(10), [WEB, DB], accepted_ns=100 * MS)
    ledger.acknowledge(ack(N2, 103, i300=10))
    assert not ledger.has_realised(N2, Revision(10), COUNTS, ())
    ledger.acknowledge(ack(N2, 120, i301=10))
    assert ledger.has_realised(N2, Revision(10), COUNTS, ())
    assert not ledger.has_realised(N1, Revision(10), COUNTS, ())
    assert ledger.has_realised(N1, Revision(10), {}, ())  # its endpoints have gone meanwhile
    assert not ledger.has_realised(N1, Revision(9), COUNTS, [WEB])


def test_a_later_sequence_covers_an_earlier_revision() -> None:
    ledger = RealisationLedger()
    ledger.change(Revision(10), [DB], accepted_ns=100 * MS)
    ledger.acknowledge(ack(N2, 130, i301=12))
    assert ledger.progress(Revision(10), COUNTS).complete


def test_the_first_acknowledgement_that_covers_a_revision_tells_its_time() -> None:
    ledger = RealisationLedger()
    ledger.change(Revision(10), [DB], accepted_ns=100 * MS)
    for at_ms, sequence in ((104, 10), (150, 12), (104, 10)):
        ledger.acknowledge(ack(N2, at_ms, i301=sequence))
    assert ledger.progress(Revision(10), COUNTS).nodes == (NodeRealised(N2, 3, 4.0),)


def test_a_revision_that_changed_nothing_is_complete_at_once() -> None:
    ledger = RealisationLedger()
    ledger.change(Revision(10), [], accepted_ns=100)
    assert ledger.progress(Revision(10), COUNTS).complete


def test_subjects_without_endpoints_concern_nobody() -> None:
    ledger = RealisationLedger()
    ledger.change(Revision(10), [Identity(999)], accepted_ns=100)
    assert ledger.progress(Revision(10), COUNTS).complete


def test_what_is_older_than_the_memory_is_not_known() -> None:
    ledger = RealisationLedger()
    ledger.start(Revision(5), newest=Revision(3), nodes=set())
    assert ledger.newest == 3
    assert not ledger.remembers(Revision(5))
    for revision in range(6, REMEMBERED_CHANGES + 8):
        ledger.change(Revision(revision), [WEB], accepted_ns=0)
    assert not ledger.remembers(Revision(7))
    assert ledger.remembers(Revision(8))
    assert ledger.newest == REMEMBERED_CHANGES + 7


def test_acknowledgements_of_a_node_without_endpoints_go() -> None:
    ledger = RealisationLedger()
    ledger.change(Revision(10), [WEB], accepted_ns=100 * MS)
    for node in (N1, N2):
        ledger.acknowledge(ack(node, 105, i300=10))
    ledger.forget_node(N1)
    ledger.forget_node(NodeName("never seen"))
    assert ledger.progress(Revision(10), COUNTS).stragglers == (N1,)


def test_a_restart_keeps_the_acknowledgements_of_nodes_that_are_there() -> None:
    ledger = RealisationLedger()
    for node in (N1, N2):
        ledger.acknowledge(ack(node, 105, i300=10))
    ledger.start(Revision(9), newest=Revision(9), nodes={N2})
    ledger.change(Revision(10), [WEB], accepted_ns=100 * MS)
    assert ledger.progress(Revision(10), COUNTS).stragglers == (N1,)


def test_an_identity_is_known_once_every_node_whose_policy_it_changed_acknowledged_its_last_change() -> None:
    ledger = RealisationLedger()
    ledger.change_identities(Revision(10), [DB], frozenset({WEB}), stored_ns=100 * MS)
    ledger.acknowledge(ack(N1, 105, i300=10))
    assert ledger.progress_of_identity(DB, COUNTS).stragglers == (N2,)
    ledger.acknowledge(ack(N2, 106, i300=10))
    assert ledger.progress_of_identity(DB, COUNTS).complete
    ledger.change_identities(Revision(12), [DB], frozenset({WEB}), stored_ns=110 * MS)
    assert ledger.progress_of_identity(DB, COUNTS).stragglers == (N1, N2)


def test_an_identity_that_no_policy_names_is_known_at_once_and_so_is_one_that_is_forgotten() -> None:
    ledger = RealisationLedger()
    assert ledger.progress_of_identity(DB, COUNTS).complete
    ledger.change_identities(Revision(10), [DB], frozenset({WEB}), stored_ns=0)
    for number in range(REMEMBERED_IDENTITIES):
        ledger.change_identities(Revision(11), [Identity(1000 + number)], frozenset({WEB}), stored_ns=0)
    assert ledger.progress_of_identity(DB, COUNTS).complete
    assert not ledger.progress_of_identity(Identity(1000), COUNTS).complete


def test_changes_of_identities_are_no_revisions_of_policies() -> None:
    ledger = RealisationLedger()
    ledger.change(Revision(8), [WEB], accepted_ns=0)
    ledger.change_identities(Revision(10), [DB], frozenset({WEB}), stored_ns=0)
    assert ledger.newest == Revision(8)
    ledger.start(Revision(20), Revision(8), {N1, N2})
    assert ledger.progress_of_identity(DB, COUNTS).complete
