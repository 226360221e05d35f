"""The calls of the policy service: read policies, store them, tell who has them in force."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec
from msgspec import structs
from nats.aio.msg import Msg

from cilia.bus import Bus
from cilia.calls import Calls
from cilia.contracts.explanations import Explained, ExplainFlow
from cilia.contracts.history import Blamed, HistoryQuery, RollbackPolicies
from cilia.contracts.messages import Problem, ProblemCode
from cilia.contracts.policies import ApplyPolicies, DeletePolicies, PoliciesChanged, SyncPolicies
from cilia.contracts.realisation import Acknowledgement, WaitRealised
from cilia.contracts.tables import PolicyObject
from cilia.errors import Refused
from cilia.policy.language.parse import decode_object
from services.policy.capacity import Capacities
from services.policy.history import Changelog, blame
from services.policy.realisation import Realisation
from services.policy.store import Store, object_key
from services.policy.waiting import Moved, Waiting

log = logging.getLogger(__name__)

Parse = Callable[[ApplyPolicies], Sequence[PolicyObject]]
"""Reads all policies of a request; raises Refused for the first that is wrong, with field and
value.
"""

Explain = Callable[[ExplainFlow], Awaitable[Explained]]
"""Tells why a flow is allowed or denied."""


@dataclass(frozen=True, slots=True)
class Requests:
    """What the service answers to."""

    store: Store
    parse: Parse
    history: Changelog
    waiting: Waiting
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
            "wait": (WaitRealised, self.waiting.wait),
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


async def hear_acknowledgements(bus: Bus, realisation: Realisation, capacities: Capacities, moved: Moved) -> None:
    """Take note of what agents have in force, on every replica; until cancelled."""
    decoder = msgspec.json.Decoder(Acknowledgement)

    async def deliver(message: Msg) -> None:
        try:
            acknowledgement = decoder.decode(message.data)
        except msgspec.DecodeError as error:
            log.warning("acknowledgement on %s: %s", message.subject, error)
            return
        realisation.acknowledge(acknowledgement)
        capacities.learn(acknowledgement.node, acknowledgement.capacity)
        moved.notify()

    subscription = await bus.subscribe(bus.subjects.ack(), deliver)
    try:
        await asyncio.Event().wait()
    finally:
        await bus.unsubscribe(subscription)


def with_unenforced(changed: PoliciesChanged, objects: Sequence[PolicyObject]) -> PoliciesChanged:
    """Say of each policy which of its fields have no effect yet."""
    paths = {object_key(row): decode_object(row).unenforced for row in objects}
    changes = tuple(msgspec.structs.replace(change, unenforced=paths.get(change.key, ())) for change in changed.changes)
    return msgspec.structs.replace(changed, changes=changes)
