"""IP address management: nodes, their leases, and the blocks that they allocate pod addresses from.

Owner of the tables nodes and pools. Its state is etcd's; a replica may be killed at any moment, and
any number of them may run.
"""

from random import Random
from typing import NoReturn

from cilia.contracts.keys import Keys
from cilia.contracts.tables import NODES, POOLS
from cilia.kvstore import Election
from cilia.lifecycle import run_service
from cilia.metrics import Metrics
from cilia.owner.epoch import ensure_epoch
from cilia.owner.informer import Informer
from cilia.owner.resources import open_resources
from cilia.owner.service import Owner
from cilia.table.publisher import TablePublisher
from services.ipam.cache import IpamCache
from services.ipam.config import Config
from services.ipam.grants import Grants
from services.ipam.pool_store import store_pools
from services.ipam.pools import parse_pools
from services.ipam.requests import Requests


async def run(config: Config) -> None:
    """Serve until told to stop."""
    configured = parse_pools(config.pools)
    keys, metrics = Keys(config.cluster), Metrics()
    cache = IpamCache(keys)
    metrics.gauge("nodes", "nodes registered", lambda: len(cache.nodes))
    async with open_resources("ipam", config) as resources:
        bus, etcd = resources.bus, resources.etcd
        await store_pools(etcd, keys, configured)
        tables = (TablePublisher(bus, NODES), TablePublisher(bus, POOLS))
        informer = Informer(etcd, keys, await ensure_epoch(etcd, keys), cache.prefixes, cache, tables)
        requests = Requests(Grants(etcd, keys, cache, config.lease_seconds, Random()))
        owner = Owner(
            resources=resources,
            election=Election(etcd, keys.leader("ipam"), config.replica, ttl_seconds=config.election_seconds),
            publishers=tables,
            calls=requests.calls,
            loops={"informer": informer.run},
            ready=informer.ready,
            metrics=metrics,
        )
        await owner.run()


def main() -> NoReturn:
    """Run the service as a process."""
    run_service("ipam", Config, run)


if __name__ == "__main__":
    main()
