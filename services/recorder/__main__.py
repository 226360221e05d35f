"""The recorder: the distinct flows of the cluster, added up over all nodes, and what policies in
shadow make of them.

Owner of the record in etcd. A replica may be killed at any moment; another goes on with what was
written, and agents send what wasn't answered again.
"""

import asyncio
from signal import SIGINT, SIGTERM
from typing import NoReturn

from cilia.bus import connect_bus
from cilia.contracts.keys import Keys
from cilia.contracts.tables import IDENTITIES, ONE_SHARD, POLICIES
from cilia.kvstore import Election, connect_kvstore
from cilia.lifecycle import run_service, stop_on_signals
from cilia.metrics import Metrics
from cilia.owner import Owner
from cilia.table.subscriber import ALL, TableSubscriber
from services.recorder.config import Config
from services.recorder.flow_store import FlowStore
from services.recorder.recorder import Recorder, RecorderCounters, run_while_elected
from services.recorder.shadow_policies import ShadowPolicies


async def run(config: Config) -> None:
    """Serve until told to stop."""
    keys, metrics, counters = Keys(config.cluster), Metrics(), RecorderCounters()
    async with (
        stop_on_signals(SIGTERM, SIGINT) as stop,
        connect_bus(config.nats, cluster=config.cluster, name=f"recorder-{config.replica}") as bus,
        connect_kvstore(config.etcd) as etcd,
    ):
        identities = TableSubscriber(bus, IDENTITIES, ALL)
        policies = TableSubscriber(bus, POLICIES, [ONE_SHARD])
        shadows = ShadowPolicies(policies, remember=config.distinct_flows)
        election = Election(etcd, keys.leader("recorder"), config.replica)
        recorder = Recorder(bus, FlowStore(etcd, keys), config, identities, shadows, counters)
        metrics.count("recorder", counters)
        metrics.gauge("recorder_flows", "distinct flows in the record", lambda: recorder.flows)
        metrics.gauge(
            "recorder_evicted", "distinct flows that made room, since the record began", lambda: recorder.evicted
        )
        metrics.gauge("recorder_shadow_policies", "policies in shadow", lambda: shadows.count)
        ready = asyncio.Event()

        async def become_ready() -> None:
            await identities.wait_complete()
            await policies.wait_complete()
            ready.set()
            await asyncio.Event().wait()

        async def hold() -> None:
            await ready.wait()
            await recorder.run()

        owner = Owner(
            service="recorder",
            bus=bus,
            election=election,
            publishers=(),
            calls={},
            concurrency=config.concurrency,
            loops={
                "identities": identities.run,
                "policies": policies.run,
                "shadows": shadows.watch,
                "readiness": become_ready,
                "recorder": lambda: run_while_elected(election, hold),
            },
            ready=ready,
            metrics=metrics,
            telemetry=config.telemetry,
        )
        await owner.run(stop)


def main() -> NoReturn:
    """Run the service as a process."""
    run_service("recorder", Config, run)


if __name__ == "__main__":
    main()
