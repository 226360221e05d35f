import pytest

from cilia.contracts.tables import PolicyObject
from services.policy import decoded
from services.policy.decoded import Decoded

DOCUMENT = """{"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "%s"},
 "spec": {"endpointSelector": {}, "ingress": [{}]}}"""


def row(name: str) -> PolicyObject:
    return PolicyObject("CiliumNetworkPolicy", "default", name, DOCUMENT % name)


def test_the_newest_documents_are_remembered_up_to_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "LIMIT", 3 * len(row("a").document))
    known = Decoded()
    first = {name: known.of(row(name)) for name in "abc"}
    assert all(known.of(row(name)) is parsed for name, parsed in first.items())
    known.of(row("d"))
    assert known.of(row("c")) is first["c"]
    assert known.of(row("a")) is not first["a"]


def test_one_that_is_larger_than_the_limit_is_remembered_until_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "LIMIT", 10)
    known = Decoded()
    first = known.of(row("a"))
    assert known.of(row("a")) is first
    known.of(row("b"))
    assert known.of(row("a")) is not first
