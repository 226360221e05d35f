import pytest

from cilia.contracts.tables import PolicyObject
from services.policy.resolution import parse_cache
from services.policy.resolution.parse_cache import ParseCache

DOCUMENT = """{"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "%s"},
 "spec": {"endpointSelector": {}, "ingress": [{}]}}"""


def row(name: str) -> PolicyObject:
    return PolicyObject("CiliumNetworkPolicy", "default", name, DOCUMENT % name)


def test_the_newest_documents_are_remembered_up_to_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse_cache, "LIMIT", 3 * len(row("a").document))
    cache = ParseCache()
    first = {name: cache.read(row(name)) for name in "abc"}
    assert all(cache.read(row(name)) is parsed for name, parsed in first.items())
    cache.read(row("d"))
    assert cache.read(row("c")) is first["c"]
    assert cache.read(row("a")) is not first["a"]


def test_one_that_is_larger_than_the_limit_is_remembered_until_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse_cache, "LIMIT", 10)
    cache = ParseCache()
    first = cache.read(row("a"))
    assert cache.read(row("a")) is first
    cache.read(row("b"))
    assert cache.read(row("a")) is not first
