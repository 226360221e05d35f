"""The policy service's parts, joined around an engine and a reader of policies.

Owner of the tables policies and resolved. Its state is etcd's; a replica may be killed at any
moment, and any number of them may run.
"""

import asyncio
from signal import SIGINT, SIGTERM
from typing import Final

from cilia.bus import connect_bus
from cilia.contracts.ids import Identity
from cilia.contracts.keys import Keys
from cilia.contracts.tables import ONE_SHARD, POLICIES, RESOLVED
from cilia.kvstore import Election, connect_kvstore
from cilia.lifecycle import stop_on_signals
from cilia.metrics import Metrics
from cilia.owner.epoch import ensure_epoch
from cilia.owner.service import Owner
from cilia.table.publisher import TablePublisher
from services.policy.capacity import Admission, Capacities
from services.policy.config import Config
from services.policy.history import Changelog
from services.policy.informer import Mirror, Resolver
from services.policy.latency import measure
from services.policy.prefixes import Prefixes
from services.policy.realisation import Realisation
from services.policy.requests import Parse, Requests, hear_acknowledgements
from services.policy.state import Places
from services.policy.store import Store
from services.policy.waiting import Moved, Waiting

NAMES_PAUSE_SECONDS: Final = 0.02
"""Agents need the table of policies for names only; what they enforce goes first."""


async def run(config: Config, resolver: Resolver, parse: Parse) -> None:
    """Serve until told to stop."""
    keys, metrics, places, realisation = Keys(config.cluster), Metrics(), Places(), Realisation()
    moved = Moved(asyncio.Event())
    async with (
        stop_on_signals(SIGTERM, SIGINT) as stop,
        connect_bus(config.nats, cluster=config.cluster, name=f"policy-{config.replica}") as bus,
        connect_kvstore(config.etcd) as etcd,
    ):
        policies = TablePublisher(bus, POLICIES, pause_seconds=NAMES_PAUSE_SECONDS)
        resolved = TablePublisher(
            bus,
            RESOLVED,
            computed=resolver.rows,
            subscribers_of=lambda subject: places.counts.get(Identity(int(subject)), ()),
        )
        election = Election(etcd, keys.leader("policy"), config.replica)
        epoch = await ensure_epoch(etcd, keys)
        mirror = Mirror(etcd, keys, epoch, resolver, places, realisation, policies, resolved, moved)
        waiting = Waiting(
            bus,
            realisation,
            places=lambda: places.counts,
            resolved=lambda subject: resolved.changelog.rows.get(str(subject), {}),
            reach=mirror.reach,
            moved=moved,
        )
        metrics.gauge("policies", "policies stored", lambda: len(policies.changelog.rows.get(ONE_SHARD, {})))
        metrics.gauge(
            "policy_subjects", "subject identities with resolved policy", lambda: len(resolved.changelog.rows)
        )
        metrics.gauge("policy_resolved_revision", "revision that is resolved", lambda: resolved.changelog.sequence)
        measure(metrics, lambda: realisation.progress(realisation.newest, places.counts))
        history = Changelog(etcd, keys)
        capacities = Capacities(bus)
        prefixes = Prefixes(bus, places, mirror.named_prefixes, mirror.reach)
        admission = Admission(resolver, places, capacities.of)
        requests = Requests(
            Store(etcd, keys, admission.admit, prefixes.reserve, mirror.stored),
            parse,
            history,
            waiting,
            mirror.explain,
        )
        owner = Owner(
            service="policy",
            bus=bus,
            election=election,
            publishers=(policies, resolved),
            calls=requests.calls,
            concurrency=config.concurrency,
            loops={
                "mirror": mirror.run,
                "acknowledgements": lambda: hear_acknowledgements(bus, realisation, capacities, moved),
                "history": lambda: history.prune_while(lambda: election.leading),
            },
            ready=mirror.ready,
            metrics=metrics,
            telemetry=config.telemetry,
        )
        await owner.run(stop)
