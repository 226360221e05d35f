"""A part of the scenarios in each run; ``python -m tests.cluster.scenarios`` plays all."""

import os
from collections.abc import Iterator

import pytest

from laboratory.cluster import LocalCluster
from tests.cluster.scenarios.stage import Stage
from tests.cluster.scenarios.table import SCENARIOS, Scenario

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

EVERY = 5


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    cluster = LocalCluster.up(f"scenes-{os.getpid()}", nodes=2, external_host=True)
    try:
        yield Stage(cluster)
    finally:
        cluster.down()


@pytest.mark.parametrize("scenario", SCENARIOS[::EVERY], ids=lambda scenario: scenario.name)
async def test_a_scenario_of_the_language(stage: Stage, scenario: Scenario) -> None:
    assert await stage.play(scenario) == []
