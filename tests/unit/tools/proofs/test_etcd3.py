"""The comparison of clients, and the errors of those that don't start."""

from tools.proofs.etcd3 import comparison, last_error

TRACEBACK = """Traceback (most recent call last):
  File "a.py", line 1, in <module>
TypeError: Descriptors cannot be created directly.
If this call came from a _pb2.py file, regenerate it.
"""


def test_lost_events_are_those_acknowledged_and_never_received() -> None:
    table = comparison(["1", "2", "3"], {"theirs": ["1"], "ours": ["1", "2", "3"]})
    assert [line.split() for line in table.splitlines()] == [
        ["client", "acknowledged", "received", "lost", "twice"],
        ["theirs", "3", "1", "2", "0"],
        ["ours", "3", "3", "0", "0"],
    ]


def test_an_event_received_again_counts_once_against_what_is_lost() -> None:
    row = comparison(["1", "2"], {"ours": ["1", "1", "1"]}).splitlines()[1]
    assert row.split() == ["ours", "2", "3", "1", "2"]


def test_an_event_that_nobody_acknowledged_is_not_lost() -> None:
    row = comparison([], {"ours": ["1"]}).splitlines()[1]
    assert row.split() == ["ours", "0", "1", "0", "0"]


def test_the_error_of_a_traceback_is_the_line_that_begins_with_its_class() -> None:
    assert last_error(TRACEBACK) == "TypeError: Descriptors cannot be created directly."
    assert last_error("nothing of note\n") == "no error"
