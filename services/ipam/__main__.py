"""IP address management: nodes, their leases, and the blocks of pod addresses that they allocate from.

Owner of the tables nodes and pools. Its state is etcd's; a replica may be killed at any moment, and any number of them
may run.
"""

from random import Random
from signal import SIGINT, SIGTERM
from typing import NoReturn

from cilia.bus import connect_bus
from cilia.calls import serve
from cilia.contracts.keys import Keys
from cilia.contracts.tables import NODES, POOLS
from cilia.health import serve_health
from cilia.kvstore import Election, connect_kvstore
from cilia.lifecycle import run_service, stop_on_signals, supervise
from cilia.metrics import Metrics
from cilia.owner import publish_while_elected, settle_epoch
from cilia.table.publisher import TablePublisher
from cilia.telemetry import open_telemetry
from services.ipam.config import Config
from services.ipam.grants import Grants
from services.ipam.mirror import Mirror
from services.ipam.pools import parse_pools
from services.ipam.registry import Registry
from services.ipam.requests import Requests
from services.ipam.settlement import settle_pools


async def run(config: Config) -> None:
    """Serve until told to stop."""
    configured = parse_pools(config.pools)
    keys, metrics = Keys(config.cluster), Metrics()
    registry = Registry(keys)
    metrics.gauge("nodes", "nodes registered", lambda: len(registry.nodes))
    with open_telemetry(config.telemetry, "ipam", metrics):
        async with (
            stop_on_signals(SIGTERM, SIGINT) as stop,
            connect_bus(config.nats, cluster=config.cluster, name=f"ipam-{config.replica}") as bus,
            connect_kvstore(config.etcd) as etcd,
        ):
            await settle_pools(etcd, keys, configured)
            nodes, pools = TablePublisher(bus, NODES), TablePublisher(bus, POOLS)
            election = Election(etcd, keys.leader("ipam"), config.replica)
            mirror = Mirror(etcd, keys, await settle_epoch(etcd, keys), registry, nodes, pools)
            requests = Requests(Grants(etcd, keys, registry, config.lease_seconds, Random()))

            async def answer() -> None:
                await mirror.ready.wait()
                await serve(bus, "ipam", requests.calls, concurrency=config.concurrency)

            await supervise(
                {
                    "mirror": mirror.run,
                    "requests": answer,
                    **nodes.loops(),
                    **pools.loops(),
                    "election": election.run,
                    "leadership": lambda: publish_while_elected(election, (nodes, pools)),
                    "health": lambda: serve_health(
                        config.telemetry.listen, metrics, lambda: "" if mirror.ready.is_set() else "no state yet"
                    ),
                },
                stop=stop,
            )


def main() -> NoReturn:
    """Run the service as a process."""
    run_service("ipam", Config, run)


if __name__ == "__main__":
    main()
