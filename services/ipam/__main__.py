"""IP address management: nodes, their leases, and the blocks of pod addresses that they allocate
from.

Owner of the tables nodes and pools. Its state is etcd's; a replica may be killed at any moment, and
any number of them may run.
"""

from random import Random
from signal import SIGINT, SIGTERM
from typing import NoReturn

from cilia.bus import connect_bus
from cilia.contracts.keys import Keys
from cilia.contracts.tables import NODES, POOLS
from cilia.kvstore import Election, connect_kvstore
from cilia.lifecycle import run_service, stop_on_signals
from cilia.metrics import Metrics
from cilia.owner import Owner, ensure_epoch
from cilia.table.publisher import TablePublisher
from services.ipam.cache import IpamCache
from services.ipam.config import Config
from services.ipam.grants import Grants
from services.ipam.informer import IpamInformer
from services.ipam.pool_store import store_pools
from services.ipam.pools import parse_pools
from services.ipam.requests import Requests


async def run(config: Config) -> None:
    """Serve until told to stop."""
    configured = parse_pools(config.pools)
    keys, metrics = Keys(config.cluster), Metrics()
    cache = IpamCache(keys)
    metrics.gauge("nodes", "nodes registered", lambda: len(cache.nodes))
    async with (
        stop_on_signals(SIGTERM, SIGINT) as stop,
        connect_bus(config.nats, cluster=config.cluster, name=f"ipam-{config.replica}") as bus,
        connect_kvstore(config.etcd) as etcd,
    ):
        await store_pools(etcd, keys, configured)
        nodes, pools = TablePublisher(bus, NODES), TablePublisher(bus, POOLS)
        election = Election(etcd, keys.leader("ipam"), config.replica)
        informer = IpamInformer(etcd, keys, await ensure_epoch(etcd, keys), cache, nodes, pools)
        requests = Requests(Grants(etcd, keys, cache, config.lease_seconds, Random()))
        owner = Owner(
            service="ipam",
            bus=bus,
            election=election,
            publishers=(nodes, pools),
            calls=requests.calls,
            concurrency=config.concurrency,
            loops={"informer": informer.run},
            ready=informer.ready,
            metrics=metrics,
            telemetry=config.telemetry,
        )
        await owner.run(stop)


def main() -> NoReturn:
    """Run the service as a process."""
    run_service("ipam", Config, run)


if __name__ == "__main__":
    main()
