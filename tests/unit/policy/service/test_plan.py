"""Plans of changes: owners keep what is theirs, and only another document is a change."""

import msgspec
import pytest
from msgspec.structs import replace

from cilia.contracts.ids import Revision
from cilia.contracts.keys import Cause, Keys
from cilia.contracts.policies import ChangeAction, PolicyChange, PolicyFile, SyncPolicies
from cilia.contracts.tables import PolicyObject
from cilia.kvstore import Record
from cilia.policy.language.parse import decode_object, put_in_shadow
from services.policy.changes.errors import NoSuchPolicies, OwnedByOthers
from services.policy.changes.plan import ChangeCause, ChangePlan, ChangeRequest, plan_sync, prefixes_of, restore
from services.policy.changes.transaction import read_stored, write_change
from services.policy.resolution.stored import StoredPolicy
from services.policy.resolution.trial import DesiredPolicies

KEYS = Keys("test")
CAUSE = ChangeCause("apply", "ann", 7)
WORLD = """{"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "%s", "namespace": "x"},
 "spec": {"endpointSelector": {}, "egress": [{"toCIDR": ["198.51.100.0/24", "192.0.2.0/24", "0.0.0.0/0"]}]}}"""


def key(name: str) -> str:
    return f"CiliumNetworkPolicy/x/{name}"


def row(name: str, document: str = "{}", **more: str) -> PolicyObject:
    return PolicyObject("CiliumNetworkPolicy", "x", name, document, **more)  # type: ignore[arg-type]


def stored(*rows: PolicyObject) -> dict[str, StoredPolicy]:
    return {key(each.name): StoredPolicy(each, Revision(number)) for number, each in enumerate(rows, 3)}


def request(desired: DesiredPolicies, *, owner: str = "", adopt: bool = False) -> ChangeRequest:
    return ChangeRequest(desired=desired, cause=CAUSE, owner=owner, adopt=adopt)


def test_each_policy_has_its_action() -> None:
    desired = {
        key("new"): row("new"),
        key("same"): row("same", author="somebody else"),
        key("other"): row("other", "[]"),
        key("gone"): None,
        key("never"): None,
    }
    plan = request(desired).plan(stored(row("same"), row("other"), row("gone")))
    assert {change.key.rpartition("/")[2]: change.action for change in plan.changes} == {
        "new": ChangeAction.CREATED,
        "same": ChangeAction.UNCHANGED,
        "other": ChangeAction.CHANGED,
        "gone": ChangeAction.DELETED,
        "never": ChangeAction.UNCHANGED,
    }
    assert list(plan.changed) == [key("new"), key("other"), key("gone")]
    assert plan.shown[2] == PolicyChange(key("other"), ChangeAction.CHANGED, "{}", "[]")
    assert plan.shown[3] == PolicyChange(key("gone"), ChangeAction.DELETED, "{}", "")


def test_what_must_exist_is_refused_with_all_that_is_missing() -> None:
    wanted = ChangeRequest(desired={key("a"): None, key("b"): None, key("c"): None}, cause=CAUSE, must_exist=True)
    with pytest.raises(NoSuchPolicies, match=rf"{key('a')}, {key('c')}; nothing was deleted"):
        wanted.plan(stored(row("b")))


def test_what_is_applied_by_itself_stays_with_its_owner() -> None:
    plan = request({key("a"): row("a", "[]")}).plan(stored(row("a", owner="repo", file="a.yaml")))
    kept = plan.rows[key("a")]
    assert kept is not None
    assert (kept.owner, kept.file, kept.document) == ("repo", "a.yaml", "[]")


@pytest.mark.parametrize("adopt", [False, True])
def test_an_owner_never_takes_what_another_owner_keeps(adopt: bool) -> None:
    there = stored(row("a", owner="other"))
    with pytest.raises(OwnedByOthers, match="a policy that other keeps"):
        request({key("a"): row("a", "[]", owner="repo")}, owner="repo", adopt=adopt).plan(there)


def test_an_owner_adopts_what_nobody_owns_only_if_told_to() -> None:
    there, mine = stored(row("a", author="ann")), {key("a"): row("a", owner="repo")}
    with pytest.raises(OwnedByOthers, match="a policy that ann applied"):
        request(mine, owner="repo").plan(there)
    assert request(mine, owner="repo", adopt=True).plan(there).changes[0].action is ChangeAction.CHANGED


def test_an_owner_does_not_delete_what_became_anothers_meanwhile() -> None:
    there = stored(row("mine", owner="repo"), row("theirs", owner="other"))
    plan = request({key("mine"): None, key("theirs"): None}, owner="repo").plan(there)
    assert list(plan.changed) == [key("mine")]


def test_a_sync_deletes_what_no_file_holds_but_for_files_that_cannot_be_read() -> None:
    there = stored(
        row("a", owner="repo", file="a.yaml"),
        row("b", owner="repo", file="b.yaml"),
        row("c", owner="repo", file="c.yaml"),
        row("d", owner="other", file="b.yaml"),
        row("e"),
    )
    sync = SyncPolicies("repo", (PolicyFile("a.yaml", ""),), keep=("c.yaml",))
    planned = plan_sync(sync, {key("a"): row("a", owner="repo", file="a.yaml")}, there)
    assert planned == (
        PolicyChange(key("a"), ChangeAction.UNCHANGED),
        PolicyChange(key("b"), ChangeAction.DELETED),
    )


def test_a_file_that_is_renamed_is_a_change() -> None:
    plan = request({key("a"): row("a", owner="repo", file="new")}, owner="repo").plan(
        stored(row("a", owner="repo", file="old"))
    )
    assert plan.changes[0].action is ChangeAction.CHANGED


def test_prefixes_are_those_of_what_is_written_and_the_world_has_its_own() -> None:
    parsed = decode_object(row("p", WORLD % "p"))
    assert prefixes_of(parsed.policy) == ("192.0.2.0/24", "198.51.100.0/24")
    assert prefixes_of(put_in_shadow(parsed, True).policy) == ()
    same, new = row("same", prefixes=("10.0.0.0/8",)), row("new", prefixes=("192.0.2.0/24",))  # type: ignore[arg-type]
    plan = request({key("same"): same, key("new"): new, key("gone"): None}).plan(stored(same, row("gone")))
    assert plan.prefixes == ("192.0.2.0/24",)


def test_a_restored_policy_names_its_prefixes_and_one_of_another_version_none() -> None:
    back = restore({key("p"): WORLD % "p", key("odd"): "{}", key("gone"): ""}, CAUSE)
    wanted, odd = back[key("p")], back[key("odd")]
    assert wanted is not None
    assert odd is not None
    assert (wanted.prefixes, wanted.author, wanted.applied_ns) == (("192.0.2.0/24", "198.51.100.0/24"), "ann", 7)
    assert (odd.prefixes, back[key("gone")]) == ((), None)


def test_a_transaction_compares_all_and_writes_what_changes_with_cause_and_revision() -> None:
    plan: ChangePlan = request({key("new"): row("new"), key("same"): row("same"), key("gone"): None}).plan(
        stored(row("same"), row("gone", "[]"))
    )
    txn = write_change(KEYS, plan).request()
    assert [each.key.decode() for each in txn.compare] == [KEYS.policy(key(name)) for name in ("new", "same", "gone")]
    assert [each.mod_revision for each in txn.compare][1:] == [3, 4]
    written, removed, cause, revision = txn.success
    assert written.request_put.key.decode() == KEYS.policy(key("new"))
    assert removed.request_delete_range.key.decode() == KEYS.policy(key("gone"))
    assert msgspec.json.decode(cause.request_put.value, type=Cause).accepted_ns == 7
    assert revision.request_put.key.decode().startswith(KEYS.policy_revisions)


def test_stored_policies_come_back_by_their_keys() -> None:
    there = replace(row("a"), owner="repo")
    record = Record(KEYS.policy(key("a")), msgspec.json.encode(there), 3, 9)
    assert read_stored(KEYS, [record]) == {key("a"): StoredPolicy(there, Revision(9))}
