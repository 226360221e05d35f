"""IP address management: nodes, whether they live, and the blocks of their pods' addresses.

Owner of the tables nodes, stale and pools. Its state is etcd's; a replica may be killed at
any moment, and any number of them may run.
"""

from random import Random
from typing import NoReturn

from cilia.contracts.keys import Keys
from cilia.contracts.tables import NODES, POOLS, STALE_NODES
from cilia.kvstore import Election
from cilia.lifecycle import run_service
from cilia.metrics import Metrics
from cilia.owner.epoch import ensure_epoch
from cilia.owner.informer import Informer
from cilia.owner.leadership import run_while_elected
from cilia.owner.resources import open_resources
from cilia.owner.service import Owner
from cilia.table.publisher import TablePublisher
from services.ipam.cache import IpamCache
from services.ipam.config import Config
from services.ipam.grants import Grants
from services.ipam.heartbeats import Heartbeats, office
from services.ipam.pool_store import store_pools
from services.ipam.pools import parse_pools
from services.ipam.removal import Removal
from services.ipam.requests import Requests


async def run(config: Config) -> None:
    """Serve until told to stop."""
    configured = parse_pools(config.pools)
    keys, metrics = Keys(config.cluster), Metrics()
    cache = IpamCache(keys)
    metrics.gauge("nodes", "nodes registered", lambda: len(cache.nodes))
    metrics.gauge("nodes_stale", "nodes whose agents are silent", lambda: len(cache.stale))
    async with open_resources("ipam", config) as resources:
        bus, etcd = resources.bus, resources.etcd
        await store_pools(etcd, keys, configured)
        tables = tuple(TablePublisher(bus, table) for table in (NODES, STALE_NODES, POOLS))
        informer = Informer(etcd, keys, await ensure_epoch(etcd, keys), cache.prefixes, cache, tables)
        removal = Removal(etcd, keys, cache, Random())
        requests = Requests(Grants(etcd, keys, cache, Random()), removal, config.stale_seconds)
        election = Election(etcd, keys.leader("ipam"), config.replica, ttl_seconds=config.election_seconds)
        heartbeats = Heartbeats(
            bus=bus,
            etcd=etcd,
            keys=keys,
            cache=cache,
            removal=removal,
            office=office(keys, config.replica),
            stale_seconds=config.stale_seconds,
            dead_seconds=config.dead_seconds,
        )
        metrics.count("liveness", heartbeats.counters)
        owner = Owner(
            resources=resources,
            election=election,
            publishers=tables,
            calls=requests.calls,
            loops={"informer": informer.run, "heartbeats": lambda: run_while_elected(election, heartbeats.run)},
            ready=informer.ready,
            metrics=metrics,
        )
        await owner.run()


def main() -> NoReturn:
    """Run the service as a process."""
    run_service("ipam", Config, run)


if __name__ == "__main__":
    main()
