"""Parts of the policy service, joined around an engine and a reader of policies.

Owner of the tables policies and resolved. Its state is etcd's; a replica may be killed at any
moment, and any number of them may run.
"""

from typing import Final

from cilia.bus import Bus
from cilia.contracts.ids import Identity
from cilia.contracts.keys import Keys
from cilia.contracts.tables import ONE_SHARD, POLICIES, RESOLVED, PolicyEntry, SubjectKey
from cilia.kvstore import Election
from cilia.metrics import Metrics
from cilia.notify import Broadcast
from cilia.owner.epoch import ensure_epoch
from cilia.owner.resources import open_resources
from cilia.owner.service import Owner
from cilia.table.publisher import TablePublisher
from services.policy.changes.capacity import Admission, MapCapacities
from services.policy.changes.prefix_reservation import PrefixReservation
from services.policy.changes.store import Store
from services.policy.config import Config
from services.policy.history.changelog import Changelog
from services.policy.realisation.acknowledgements import hear_acknowledgements
from services.policy.realisation.ledger import RealisationLedger
from services.policy.realisation.metrics import measure
from services.policy.realisation.waiter import RevisionWaiter
from services.policy.requests import Parse, Requests
from services.policy.resolution.identity_nodes import IdentityNodes
from services.policy.resolution.informer import PolicyInformer, Resolver

NAMES_PAUSE_SECONDS: Final = 0.02
"""Agents need the table of policies for names only; what they enforce goes first."""


async def run(config: Config, resolver: Resolver, parse: Parse) -> None:
    """Serve until told to stop."""
    keys, metrics, nodes, ledger = Keys(config.cluster), Metrics(), IdentityNodes(), RealisationLedger()
    progressed = Broadcast()
    async with open_resources("policy", config) as resources:
        bus, etcd = resources.bus, resources.etcd
        informer = PolicyInformer(
            etcd=etcd,
            keys=keys,
            epoch=await ensure_epoch(etcd, keys),
            resolver=resolver,
            nodes=nodes,
            ledger=ledger,
            policies=TablePublisher(bus, POLICIES, pause_seconds=NAMES_PAUSE_SECONDS),
            resolved=_publisher_of_resolved(bus, resolver, nodes),
            progressed=progressed,
        )
        history, capacities = Changelog(etcd, keys), MapCapacities(bus)
        waiter = RevisionWaiter(
            bus,
            ledger,
            endpoint_counts=lambda: nodes.counts,
            resolved=lambda subject: informer.resolved.changelog.rows.get(str(subject), {}),
            reach=informer.reach,
            progressed=progressed,
        )
        prefixes = PrefixReservation(bus, nodes, informer.named_prefixes, informer.reach)
        admission = Admission(resolver, nodes, capacities.of)
        store = Store(etcd, keys, admission, prefixes.reserve, informer.stored)
        election = Election(etcd, keys.leader("policy"), config.replica, ttl_seconds=config.election_seconds)
        _measure(metrics, informer)
        metrics.count("policy", resolver.counters)
        owner = Owner(
            resources=resources,
            election=election,
            publishers=(informer.policies, informer.resolved),
            calls=Requests(store, parse, history, waiter, informer.explain).calls,
            loops={
                "informer": informer.run,
                "acknowledgements": lambda: hear_acknowledgements(bus, ledger, capacities.learn, progressed),
                "history": lambda: history.prune_while(lambda: election.leading),
            },
            ready=informer.ready,
            metrics=metrics,
        )
        await owner.run()


def _publisher_of_resolved(
    bus: Bus, resolver: Resolver, nodes: IdentityNodes
) -> TablePublisher[SubjectKey, PolicyEntry]:
    return TablePublisher(
        bus,
        RESOLVED,
        computed=resolver.rows,
        subscribers_of=lambda subject: nodes.counts.get(Identity(int(subject)), ()),
    )


def _measure(metrics: Metrics, informer: PolicyInformer) -> None:
    policies, resolved, ledger = informer.policies, informer.resolved, informer.ledger
    metrics.gauge("policies", "policies stored", lambda: len(policies.changelog.rows.get(ONE_SHARD, {})))
    metrics.gauge("policy_subjects", "subject identities with resolved policy", lambda: len(resolved.changelog.rows))
    metrics.gauge("policy_resolved_revision", "revision that is resolved", lambda: resolved.changelog.sequence)
    measure(metrics, lambda: ledger.progress(ledger.newest, informer.nodes.counts))
