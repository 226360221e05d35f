"""Calls of the policy service, over a store in memory."""

import json

import pytest

from cilia.contracts.keys import Keys
from cilia.contracts.policies import ApplyPolicies, ChangeAction, DeletePolicies, PolicyFile, SyncPolicies
from cilia.errors import Refused
from services.policy.changes.reading import PolicyReader
from services.policy.history.changelog import Changelog
from services.policy.requests import Requests
from services.policy.resolution.parse_cache import ParseCache
from tests.fakes.etcd import FakeEtcd
from tests.unit.policy.service.stores import store_in

KEYS = Keys("test")
KEY = "CiliumNetworkPolicy/default/"


def text(name: str, **spec: object) -> str:
    rule = {"endpointSelector": {}, **(spec or {"ingress": [{}]})}
    return json.dumps(
        {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": name}, "spec": rule}
    )


def requests(etcd: FakeEtcd, cache: ParseCache | None = None) -> Requests:
    reader = PolicyReader(cache or ParseCache())
    return Requests(store_in(etcd, KEYS), reader.read, Changelog(etcd, KEYS), None, None)  # type: ignore[arg-type]


async def test_policies_of_a_text_are_stored_and_removed_together() -> None:
    etcd = FakeEtcd()
    calls = requests(etcd)
    changed = await calls.apply(ApplyPolicies(f"{text('a')}\n---\n{text('b')}", "web.yaml", author="ann"))
    assert {each.key: each.action for each in changed.changes} == dict.fromkeys(
        (f"{KEY}a", f"{KEY}b"), ChangeAction.CREATED
    )
    await calls.delete(DeletePolicies((f"{KEY}a", f"{KEY}b"), author="ann"))
    assert etcd.keys(KEYS.policies) == []


@pytest.mark.parametrize(
    ("wrong", "field", "message"),
    [
        ("kind: Pod", "kind", "web.yaml, document 1"),
        (text("a", ingress="all"), "spec.ingress", "must be a list"),
        ("", "text", "web.yaml holds no policy"),
        (f"{text('a')}\n---\n{text('a')}", "metadata.name", "comes twice in the text"),
    ],
)
async def test_a_wrong_text_is_refused_by_document_and_field(wrong: str, field: str, message: str) -> None:
    etcd = FakeEtcd()
    with pytest.raises(Refused, match=message) as refused:
        await requests(etcd).apply(ApplyPolicies(wrong, "web.yaml"))
    assert refused.value.problem.field == field
    assert etcd.keys() == []


async def test_what_has_no_effect_yet_is_named_where_it_is_allowed() -> None:
    unenforced = text("a", egress=[{"toFQDNs": [{"matchName": "example.org"}]}])
    calls = requests(FakeEtcd())
    with pytest.raises(Refused, match="not enforced yet"):
        await calls.apply(ApplyPolicies(unenforced))
    changed = await calls.apply(ApplyPolicies(unenforced, allow_unenforced=True))
    assert changed.changes[0].unenforced == ("spec.egress[0].toFQDNs",)


async def test_a_policy_in_shadow_names_no_prefix_that_needs_an_identity() -> None:
    cache = ParseCache()
    world = text("a", egress=[{"toCIDR": ["192.0.2.0/24"]}])
    (row,) = PolicyReader(cache).read(ApplyPolicies(world, shadow=True))
    assert (row.prefixes, cache.read(row).policy.shadow) == ((), True)
    (row,) = PolicyReader(cache).read(ApplyPolicies(world))
    assert row.prefixes == ("192.0.2.0/24",)


async def test_what_was_read_from_a_user_is_not_read_again() -> None:
    cache = ParseCache()
    (row,) = PolicyReader(cache).read(ApplyPolicies(text("a")))
    assert cache.read(row) is cache.read(row)
    assert cache.read(row).document == row.document


async def test_a_sync_takes_the_files_of_one_owner() -> None:
    etcd = FakeEtcd()
    calls = requests(etcd)
    files = (PolicyFile("a.yaml", text("a")), PolicyFile("b.yaml", text("b")))
    await calls.sync(SyncPolicies("repo", files))
    changed = await calls.sync(SyncPolicies("repo", files[:1]))
    assert {each.key: each.action for each in changed.changes} == {f"{KEY}b": ChangeAction.DELETED}


async def test_a_sync_without_owner_or_with_one_policy_in_two_files_is_refused() -> None:
    calls = requests(FakeEtcd())
    with pytest.raises(Refused, match="'' is no owner"):
        await calls.sync(SyncPolicies("", ()))
    files = (PolicyFile("a.yaml", text("a")), PolicyFile("b.yaml", text("a")))
    with pytest.raises(Refused, match=f"b.yaml: {KEY}a is in a.yaml, too"):
        await calls.sync(SyncPolicies("repo", files))
