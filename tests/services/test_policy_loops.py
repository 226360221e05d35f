"""The policy service's loops around an engine of one rule: a policy's document is the label that it
lets in.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from cilia.bus import Bus, BusConfig
from cilia.calls import Calls, serve_node
from cilia.contracts.agent import EndpointPolicy, EndpointReference, LocalEndpoints, PolicyRule
from cilia.contracts.explanations import Explained, ExplainFlow
from cilia.contracts.ids import EndpointId, Identity, NodeName, Revision
from cilia.contracts.keys import Keys
from cilia.contracts.messages import Empty, Problem, ProblemCode
from cilia.contracts.policies import ApplyPolicies, DeletePolicies, PoliciesChanged
from cilia.contracts.realisation import Acknowledgement, Realised, WaitRealised
from cilia.contracts.tables import Endpoint, Node, PolicyEntry, PolicyKey, PolicyObject, SubjectKey
from cilia.errors import Refused
from cilia.kvstore import EtcdConfig
from cilia.lifecycle import supervise
from laboratory.services import Stage
from services.policy.config import Config
from services.policy.resolution.events import Event, IdentityEvent, PolicyEvent
from services.policy.resolution.informer import Difference
from services.policy.resolution.resolver import ResolverCounters
from services.policy.resolution.trial import DesiredPolicies, Sizes
from services.policy.service import run
from tests.services.ask import ask
from tests.unit.policy.service.agents import local

ANY = PolicyKey(False, Identity(0), 0, 0, 0)
ALLOW = PolicyEntry(False, 1)
WEB = Identity(300)
N1 = NodeName("n1")


class OneRule:
    """Every identity with a label that some policy names has one entry."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[SubjectKey, PolicyEntry]] = {}
        self.counters = ResolverCounters()
        self.clear()

    def clear(self) -> None:
        self._labels: dict[Identity, frozenset[str]] = {}
        self._policies: dict[str, str] = {}
        self._entries: dict[SubjectKey, PolicyEntry] = {}

    def load(self, events: Sequence[Event]) -> None:
        self.take(events)

    def take(self, events: Sequence[Event]) -> Difference:
        for event in events:
            match event:
                case PolicyEvent(key, row):
                    self._policies[key] = row.document if row is not None else ""
                case IdentityEvent(identity, labels):
                    self._labels[identity] = frozenset(map(str, labels or ()))
                case _:
                    pass
        named = set(self._policies.values())
        entries = {SubjectKey(identity, ANY): ALLOW for identity, labels in self._labels.items() if labels & named}
        before, self._entries = self._entries, entries
        self.rows.clear()
        for subject, entry in entries.items():
            self.rows.setdefault(str(subject.subject), {})[subject] = entry
        gone: dict[SubjectKey, PolicyEntry | None] = {key: None for key in before if key not in entries}
        return gone | {key: entry for key, entry in entries.items() if before.get(key) != entry}

    def size(self, subject: Identity) -> int:
        return len(self.rows.get(str(subject), {}))

    def try_sizes(self, desired: DesiredPolicies) -> Sizes:
        return Sizes({}, {})

    def try_cookies(self, desired: DesiredPolicies, subject: Identity) -> Counter[int]:
        return Counter()

    def drop_trial(self, desired: DesiredPolicies) -> None:
        pass

    def explain(self, request: ExplainFlow, nodes: Sequence[Node]) -> Explained:
        raise Refused(Problem(ProblemCode.NOT_FOUND, request.source.name))


@asynccontextmanager
async def policy_service(stage: Stage) -> AsyncIterator[None]:
    def parse(request: ApplyPolicies) -> list[PolicyObject]:
        return [PolicyObject("CiliumNetworkPolicy", "default", "web", request.text, applied_ns=time.time_ns())]

    config = Config(
        cluster=stage.cluster,
        nats=BusConfig(urls=(stage.nats.url,)),
        etcd=EtcdConfig(endpoints=(stage.etcd.address,)),
    )
    running = asyncio.create_task(run(config, OneRule(), parse))
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def place_web(stage: Stage) -> None:
    keys, row = Keys(stage.cluster), Endpoint(N1, EndpointId(7), WEB, "10.0.0.7")
    await stage.kvstore.put(keys.identity(WEB), b"k8s:app=web;")
    await stage.kvstore.put(keys.endpoint(N1, EndpointId(7)), msgspec.json.encode(row))


async def apply(stage: Stage, text: str) -> PoliciesChanged:
    return await ask(stage.bus, "policy", "apply", ApplyPolicies(text), PoliciesChanged)


async def wait(stage: Stage, revision: int, seconds: float) -> Realised:
    return await ask(stage.bus, "policy", "wait", WaitRealised(Revision(revision), seconds), Realised)


async def acknowledge(bus: Bus, revision: int) -> None:
    ack = Acknowledgement(N1, {WEB: Revision(revision)}, 1, time.time_ns())
    await bus.publish(bus.subjects.ack(N1), msgspec.json.encode(ack))


@asynccontextmanager
async def agent(bus: Bus, revision: int, rules: tuple[PolicyRule, ...]) -> AsyncIterator[None]:
    """An agent that has put ``rules`` in force, and heard the shard at ``revision``."""

    async def endpoints(_request: Empty) -> LocalEndpoints:
        return local(WEB, revision, N1)

    async def policy(request: EndpointReference) -> EndpointPolicy:
        return EndpointPolicy(request.id, WEB, revision, rules)

    calls: Calls = {"endpoint-list": (Empty, endpoints), "policy-get": (EndpointReference, policy)}
    stop = asyncio.Event()
    running = asyncio.create_task(supervise({"agent": lambda: serve_node(bus, N1, calls)}, stop=stop))
    try:
        yield
    finally:
        stop.set()
        await running


async def test_a_wait_ends_with_the_acknowledgement_of_the_last_concerned_node(stage: Stage) -> None:
    async with policy_service(stage):
        await place_web(stage)
        applied = await apply(stage, "k8s:app=web")
        late = await wait(stage, applied.revision, 0.2)
        assert (late.complete, late.stragglers) == (False, (N1,))
        waiting = asyncio.create_task(wait(stage, applied.revision, 5))
        await asyncio.sleep(0.1)
        await acknowledge(stage.bus, applied.revision)
        done = await waiting
        assert done.complete
        assert done.nodes[0].endpoints == 1
        assert 0 < done.nodes[0].milliseconds < 5000
        assert (await wait(stage, 0, 1)).revision == applied.revision


async def test_a_lost_acknowledgement_is_made_good_by_asking_the_node(stage: Stage) -> None:
    async with policy_service(stage):
        await place_web(stage)
        applied = await apply(stage, "k8s:app=web")
        async with agent(stage.bus, applied.revision, ()):
            assert (await wait(stage, applied.revision, 5)).complete


async def test_after_a_restart_the_kernels_contents_tell_who_has_it_in_force(stage: Stage) -> None:
    async with policy_service(stage):
        await place_web(stage)
        applied = await apply(stage, "k8s:app=web")
    async with policy_service(stage):
        async with agent(stage.bus, applied.revision - 1, ()):
            assert (await wait(stage, applied.revision, 1)).stragglers == (N1,)
        async with agent(stage.bus, applied.revision - 1, (PolicyRule(ANY, ALLOW),)):
            assert (await wait(stage, applied.revision, 5)).complete
            assert (await wait(stage, 0, 5)).revision == applied.revision


async def test_a_revision_that_concerns_nobody_is_complete_at_once(stage: Stage) -> None:
    async with policy_service(stage):
        await place_web(stage)
        applied = await apply(stage, "k8s:app=nobody")
        assert (await wait(stage, applied.revision, 1)).complete
        deleted = await ask(stage.bus, "policy", "delete", DeletePolicies((applied.changes[0].key,)), PoliciesChanged)
        assert (await wait(stage, deleted.revision, 1)).complete
