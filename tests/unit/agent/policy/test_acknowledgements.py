"""Acknowledgements name identities, sequences and how many endpoints they concern."""

from typing import cast

import msgspec
import pytest

from cilia.bus import Bus
from cilia.contracts.ids import Identity, NodeName, Revision
from cilia.contracts.realisation import Acknowledgement
from cilia.contracts.subjects import Subjects
from cilia.errors import Unavailable
from services.agent.policy.acknowledgements import Acknowledgements

NODE, WEB, DB = NodeName("node1"), Identity(300), Identity(301)


class FakeBus:
    def __init__(self, *, connected: bool = True, refuses: bool = False) -> None:
        self.subjects = Subjects("test")
        self.connected = connected
        self.refuses = refuses
        self.published: dict[str, Acknowledgement] = {}

    async def publish(self, subject: str, payload: bytes) -> None:
        if self.refuses:
            raise Unavailable("bus", "no connection")
        self.published[subject] = msgspec.json.decode(payload, type=Acknowledgement)


def acknowledgements(bus: FakeBus) -> Acknowledgements:
    return Acknowledgements(cast(Bus, bus), NODE, {WEB: 2, DB: 1}.__getitem__, capacity=77)


async def test_one_message_says_what_a_hand_over_brought_into_force() -> None:
    bus = FakeBus()
    await acknowledgements(bus).publish({WEB: Revision(5), DB: Revision(6)})
    ((subject, message),) = bus.published.items()
    assert subject == "cilia.v1.test.ack.node1"
    assert (message.node, message.subjects, message.capacity) == (NODE, {WEB: 5, DB: 6}, 77)
    assert message.realised_ns > 0


@pytest.mark.parametrize("bus", [FakeBus(connected=False), FakeBus(refuses=True)])
async def test_a_bus_that_is_away_keeps_nothing_back(bus: FakeBus) -> None:
    await acknowledgements(bus).publish({WEB: Revision(5)})
    assert bus.published == {}
