"""The identity service: numbers for label sets, and the rows of endpoints that bear them.

Owner of the tables identities and endpoints. Its state is etcd's; a replica may be killed at any
moment, and any number of them may run.
"""

from random import Random
from signal import SIGINT, SIGTERM
from typing import NoReturn

from cilia.bus import connect_bus
from cilia.contracts.identities import node_range, prefix_range
from cilia.contracts.keys import Keys
from cilia.contracts.tables import ENDPOINTS, IDENTITIES, PREFIXES
from cilia.kvstore import Election, connect_kvstore
from cilia.lifecycle import run_service, stop_on_signals
from cilia.metrics import Metrics
from cilia.owner import Owner, ensure_epoch
from cilia.table.publisher import TablePublisher
from services.identity.allocator import Allocator
from services.identity.backfill import Backfill
from services.identity.cache import IdentityCache
from services.identity.config import Config
from services.identity.gc import GCCounters, IdentityGC
from services.identity.informer import IdentityInformer
from services.identity.label_filter import read_label_filter
from services.identity.numbers import number_range
from services.identity.requests import Requests


async def run(config: Config) -> None:
    """Serve until told to stop."""
    numbers = number_range(config.cluster_id, config.identities)
    label_filter = read_label_filter(config.labels)
    keys, metrics, collected = Keys(config.cluster), Metrics(), GCCounters()
    cache = IdentityCache(keys)
    metrics.count("identity_gc", collected)
    metrics.gauge("identities", "identities allocated in this cluster", lambda: len(cache.identities))
    async with (
        stop_on_signals(SIGTERM, SIGINT) as stop,
        connect_bus(config.nats, cluster=config.cluster, name=f"identity-{config.replica}") as bus,
        connect_kvstore(config.etcd) as etcd,
    ):
        identities, endpoints = TablePublisher(bus, IDENTITIES), TablePublisher(bus, ENDPOINTS)
        prefixes = TablePublisher(bus, PREFIXES)
        election = Election(etcd, keys.leader("identity"), config.replica)
        informer = IdentityInformer(etcd, keys, await ensure_epoch(etcd, keys), cache, identities, endpoints, prefixes)
        cidrs = Allocator(etcd, keys, cache, prefix_range(), Random())
        requests = Requests(etcd, keys, Allocator(etcd, keys, cache, numbers, Random()), cidrs, label_filter)
        nodes = Allocator(etcd, keys, cache, node_range(), Random())
        backfill = Backfill(cidrs, nodes, cache, elected=lambda: election.leading)
        gc = IdentityGC(
            etcd,
            keys,
            cache,
            elected=lambda: election.leading,
            round_seconds=config.gc_seconds,
            steps_per_second=config.gc_per_second,
            counters=collected,
        )
        owner = Owner(
            service="identity",
            bus=bus,
            election=election,
            publishers=(identities, endpoints, prefixes),
            calls=requests.calls,
            concurrency=config.concurrency,
            loops={"informer": informer.run, "gc": gc.run, "backfill": backfill.run},
            ready=informer.ready,
            metrics=metrics,
            telemetry=config.telemetry,
        )
        await owner.run(stop)


def main() -> NoReturn:
    """Run the service as a process."""
    run_service("identity", Config, run)


if __name__ == "__main__":
    main()
