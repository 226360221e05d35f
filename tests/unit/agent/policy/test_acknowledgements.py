"""Acknowledgements name identities, sequences and how many endpoints they concern."""

import msgspec
import pytest

from cilia.contracts.ids import Identity, NodeName, Revision
from cilia.contracts.realisation import Acknowledgement
from services.agent.policy.acknowledgements import Acknowledgements
from tests.unit.agent.scripted_bus import ScriptedBus

NODE, WEB, DB = NodeName("node1"), Identity(300), Identity(301)


def acknowledgements(bus: ScriptedBus) -> Acknowledgements:
    return Acknowledgements(bus.as_bus(), NODE, {WEB: 2, DB: 1}.__getitem__, capacity=77)


async def test_one_message_says_what_a_hand_over_brought_into_force() -> None:
    bus = ScriptedBus()
    await acknowledgements(bus).publish({WEB: Revision(5), DB: Revision(6)})
    ((subject, payload),) = bus.published
    message = msgspec.json.decode(payload, type=Acknowledgement)
    assert subject == "cilia.v1.test.ack.node1"
    assert (message.node, message.subjects, message.capacity) == (NODE, {WEB: 5, DB: 6}, 77)
    assert message.realised_ns > 0


@pytest.mark.parametrize("connected", [False, True])
async def test_a_bus_that_is_away_keeps_nothing_back(connected: bool) -> None:
    bus = ScriptedBus()
    bus.connected, bus.refuses_publishing = connected, connected
    await acknowledgements(bus).publish({WEB: Revision(5)})
    assert bus.published == []
