"""Requests that a replica gets after a pause, when whoever asked has given up: not carried out."""

import asyncio
import os
import signal

import pytest

from cilia.contracts.identity_service import Published, PublishEndpoint
from cilia.contracts.ids import EndpointId, Incarnation, NodeName
from cilia.contracts.ids import Identity as Number
from cilia.contracts.tables import Endpoint
from cilia.errors import Unavailable
from laboratory.services import Stage
from tests.services.ask import publish, register

N1 = NodeName("n1")


async def try_publishing(stage: Stage, incarnation: Incarnation) -> None:
    row = Endpoint(N1, EndpointId(7), Number(0), "10.244.0.7")
    request = PublishEndpoint(row, ("app=late",), incarnation)
    await stage.bus.request(stage.bus.subjects.request("identity", "publish"), request, Published, timeout=1.0)


async def test_what_timed_out_while_a_replica_hung_is_not_done_later(stage: Stage) -> None:
    async with stage.inside("ipam"), stage.service("identity") as identity:
        incarnation = (await register(stage.bus, "n1")).incarnation
        await publish(stage.bus, "n1", 1, incarnation, "app=web")
        os.kill(identity.process.pid, signal.SIGSTOP)
        try:
            for _ in range(3):
                with pytest.raises(Unavailable):
                    await try_publishing(stage, incarnation)
        finally:
            os.kill(identity.process.pid, signal.SIGCONT)
        await publish(stage.bus, "n1", 2, incarnation, "app=web")  # answered only after what came before
        await asyncio.sleep(0.5)
        assert await stage.endpoints() == {"n1/1", "n1/2"}
