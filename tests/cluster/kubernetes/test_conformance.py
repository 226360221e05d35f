"""A part of the cases in each run; ``python -m tests.cluster.kubernetes`` takes all."""

import pytest

from laboratory.cluster import LocalCluster
from tests.cluster.kubernetes.conformance import Stage
from tests.unit.policy.corpus import load

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
ALTERS_CLUSTER = True  # prefixes of its pods keep their identities for a while

EVERY = 23


async def test_a_sample_of_the_cases_on_real_traffic(cluster: LocalCluster) -> None:
    stage = Stage(cluster)
    for case in load("kubernetes-networkpolicy.json")["cases"][::EVERY]:
        for step in case["steps"]:
            stage.set(step)
            assert await stage.try_all(step) == [], case["description"]
