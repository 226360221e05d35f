"""A part of the scenarios in each run; ``python -m tests.cluster.scenarios`` plays all."""

import pytest

from laboratory.cluster import LocalCluster
from laboratory.pool import Configuration
from tests.cluster.scenarios.stage import Stage
from tests.cluster.scenarios.table import SCENARIOS, Scenario

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

EVERY = 5


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    return Configuration(nodes=2, external_host=True)


@pytest.fixture(scope="module")
def stage(shared_cluster: LocalCluster) -> Stage:
    return Stage(shared_cluster)


@pytest.mark.parametrize("scenario", SCENARIOS[::EVERY], ids=lambda scenario: scenario.name)
async def test_a_scenario_of_the_language(stage: Stage, scenario: Scenario) -> None:
    assert await stage.play(scenario) == []
