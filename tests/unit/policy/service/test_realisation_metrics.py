"""Metrics of how far the newest revision of policies has come."""

import re

from cilia.contracts.ids import NodeName, Revision
from cilia.contracts.realisation import NodeRealised, Realised
from cilia.metrics import Metrics
from services.policy.realisation.metrics import measure


def shown(newest: Realised) -> dict[str, float]:
    metrics = Metrics()
    measure(metrics, lambda: newest)
    text = metrics.prometheus().decode()
    return {name: float(value) for name, value in re.findall(r"^cilia_policy_(\w+) (\S+)$", text, re.MULTILINE)}


def test_nodes_stragglers_and_times_are_those_of_the_newest_revision() -> None:
    nodes = tuple(NodeRealised(NodeName(f"n{number}"), 1, float(number)) for number in range(100, 0, -1))
    assert shown(Realised(Revision(7), False, nodes, (NodeName("x"), NodeName("y")))) == {
        "realised_nodes": 100,
        "stragglers": 2,
        "realised_median_ms": 50,
        "realised_p99_ms": 99,
        "realised_slowest_ms": 100,
    }


def test_a_revision_that_nobody_has_taken_yet_shows_no_time() -> None:
    assert set(shown(Realised(Revision(7), False)).values()) == {0}
