"""The identity service: numbers for label sets, and the rows of endpoints that bear them.

Owner of the tables identities, endpoints and prefixes. Its state is etcd's; a replica may be killed
at any moment, and any number of them may run.
"""

from random import Random
from typing import NoReturn

from cilia.contracts.identities import node_range, prefix_range
from cilia.contracts.keys import Keys
from cilia.contracts.tables import ENDPOINTS, IDENTITIES, PREFIXES
from cilia.kvstore import Election
from cilia.lifecycle import run_service
from cilia.metrics import Metrics
from cilia.owner.epoch import ensure_epoch
from cilia.owner.informer import Informer
from cilia.owner.resources import open_resources
from cilia.owner.service import Owner
from cilia.table.publisher import TablePublisher
from services.identity.allocator import Allocator
from services.identity.backfill import Backfill
from services.identity.cache import IdentityCache
from services.identity.config import Config
from services.identity.gc import GCCounters, IdentityGC
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
    async with open_resources("identity", config) as resources:
        bus, etcd = resources.bus, resources.etcd
        tables = (TablePublisher(bus, IDENTITIES), TablePublisher(bus, ENDPOINTS), TablePublisher(bus, PREFIXES))
        election = Election(etcd, keys.leader("identity"), config.replica, ttl_seconds=config.election_seconds)
        informer = Informer(etcd, keys, await ensure_epoch(etcd, keys), cache.prefixes, cache, tables)
        pods, cidrs, nodes = (
            Allocator(etcd, keys, cache, each, Random()) for each in (numbers, prefix_range(), node_range())
        )
        requests = Requests(etcd, keys, pods, cidrs, label_filter)
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
            resources=resources,
            election=election,
            publishers=tables,
            calls=requests.calls,
            loops={"informer": informer.run, "gc": gc.run, "backfill": backfill.run},
            ready=informer.ready,
            metrics=metrics,
        )
        await owner.run()


def main() -> NoReturn:
    """Run the service as a process."""
    run_service("identity", Config, run)


if __name__ == "__main__":
    main()
