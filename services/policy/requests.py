"""Calls of the policy service: policies applied and removed, explained, and waited for."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from msgspec import structs

from cilia.calls import Calls
from cilia.contracts.explanations import Explained, ExplainFlow
from cilia.contracts.history import Blamed, HistoryQuery, RollbackPolicies
from cilia.contracts.messages import Problem, ProblemCode
from cilia.contracts.policies import ApplyPolicies, DeletePolicies, PoliciesChanged, SyncPolicies
from cilia.contracts.realisation import WaitKnown, WaitRealised
from cilia.contracts.tables import PolicyObject
from cilia.errors import Refused
from cilia.policy.language.parse import decode_object
from services.policy.changes.plan import object_key
from services.policy.changes.store import Store
from services.policy.history.blame import blame
from services.policy.history.changelog import Changelog
from services.policy.realisation.waiter import RevisionWaiter

Parse = Callable[[ApplyPolicies], Sequence[PolicyObject]]
"""Reads all policies of a request; raises Refused for the first that is wrong, with field and
value.
"""

Explain = Callable[[ExplainFlow], Awaitable[Explained]]
"""Tells why a flow is allowed or denied."""


@dataclass(frozen=True, slots=True)
class Requests:
    """Calls that the service answers."""

    store: Store
    parse: Parse
    history: Changelog
    waiter: RevisionWaiter
    explain: Explain

    @property
    def calls(self) -> Calls:
        """The calls, for :func:`cilia.calls.serve`."""
        return {
            "apply": (ApplyPolicies, self.apply),
            "sync": (SyncPolicies, self.sync),
            "delete": (DeletePolicies, self.delete),
            "history": (HistoryQuery, self.history.list),
            "rollback": (RollbackPolicies, self.store.rollback),
            "blame": (ExplainFlow, self.blame),
            "explain": (ExplainFlow, self.explain),
            "wait": (WaitRealised, self.waiter.wait),
            "known": (WaitKnown, self.waiter.known),
        }

    async def apply(self, request: ApplyPolicies) -> PoliciesChanged:
        """Store policies: all of the text or none of it; they are in etcd before the answer."""
        objects = self.parse(request)
        changed = await self.store.apply(objects, dry_run=request.dry_run)
        return with_unenforced(changed, objects) if request.allow_unenforced else changed

    async def sync(self, request: SyncPolicies) -> PoliciesChanged:
        """Make an owner's policies what its files say."""
        if not request.owner:
            raise Refused(Problem(ProblemCode.INVALID, "'' is no owner", "owner", ""))
        rows: dict[str, PolicyObject] = {}
        for file in request.files:
            text = ApplyPolicies(
                file.text,
                file.name,
                request.namespace,
                author=request.author,
                allow_unenforced=request.allow_unenforced,
            )
            for row in self.parse(text):
                key = object_key(row)
                if key in rows:
                    reason = f"{file.name}: {key} is in {rows[key].file}, too"
                    raise Refused(Problem(ProblemCode.INVALID, reason, "metadata.name", row.name))
                rows[key] = structs.replace(row, owner=request.owner, file=file.name)
        return await self.store.sync(request, rows)

    async def delete(self, request: DeletePolicies) -> PoliciesChanged:
        """Remove policies, all or none."""
        return await self.store.delete(request.keys, author=request.author)

    async def blame(self, request: ExplainFlow) -> Blamed:
        """Explain a flow, and say who is behind the rules that decide it."""
        return await blame(self.history, self.explain, request)


def with_unenforced(changed: PoliciesChanged, objects: Sequence[PolicyObject]) -> PoliciesChanged:
    """Say of each policy which of its fields have no effect yet."""
    paths = {object_key(row): decode_object(row).unenforced for row in objects}
    changes = tuple(structs.replace(change, unenforced=paths.get(change.key, ())) for change in changed.changes)
    return structs.replace(changed, changes=changes)
