"""The recorder: distinct flows of the cluster, and the verdicts that shadow policies give them.

Owner of the record in etcd. A replica may be killed at any moment; another goes on with what was
written, and agents send what wasn't answered again.
"""

import asyncio
from typing import NoReturn

from cilia.contracts.keys import Keys
from cilia.contracts.tables import IDENTITIES, ONE_SHARD, POLICIES
from cilia.kvstore import Election
from cilia.lifecycle import run_service
from cilia.metrics import Metrics
from cilia.owner.leadership import run_while_elected
from cilia.owner.resources import open_resources
from cilia.owner.service import Owner
from cilia.table.subscriber import ALL, TableSubscriber
from services.recorder.config import Config
from services.recorder.flow_store import FlowStore
from services.recorder.recorder import Recorder, RecorderCounters
from services.recorder.shadow_policies import ShadowPolicies


async def run(config: Config) -> None:
    """Serve until told to stop."""
    keys, metrics, counters = Keys(config.cluster), Metrics(), RecorderCounters()
    async with open_resources("recorder", config) as resources:
        bus, etcd = resources.bus, resources.etcd
        identities = TableSubscriber(bus, IDENTITIES, ALL)
        policies = TableSubscriber(bus, POLICIES, [ONE_SHARD])
        shadows = ShadowPolicies(policies, remember=config.distinct_flows)
        election = Election(etcd, keys.leader("recorder"), config.replica, ttl_seconds=config.election_seconds)
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

        async def record() -> None:
            await ready.wait()
            await recorder.run()

        owner = Owner(
            resources=resources,
            election=election,
            publishers=(),
            calls={},
            loops={
                "identities": identities.run,
                "policies": policies.run,
                "shadows": shadows.watch,
                "readiness": become_ready,
                "recorder": lambda: run_while_elected(election, record),
            },
            ready=ready,
            metrics=metrics,
        )
        await owner.run()


def main() -> NoReturn:
    """Run the service as a process."""
    run_service("recorder", Config, run)


if __name__ == "__main__":
    main()
