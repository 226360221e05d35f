"""Acknowledgements of agents, which every replica hears."""

import asyncio
import logging
from collections.abc import Callable

import msgspec
from nats.aio.msg import Msg

from cilia.bus import Bus
from cilia.contracts.ids import NodeName
from cilia.contracts.realisation import Acknowledgement
from cilia.notify import Broadcast
from services.policy.realisation.ledger import RealisationLedger

log = logging.getLogger(__name__)


async def hear_acknowledgements(
    bus: Bus, ledger: RealisationLedger, learn_capacity: Callable[[NodeName, int], None], progressed: Broadcast
) -> None:
    """Take note of what agents have in force and how much their maps hold, until cancelled."""
    decoder = msgspec.json.Decoder(Acknowledgement)

    async def deliver(message: Msg) -> None:
        try:
            acknowledgement = decoder.decode(message.data)
        except msgspec.DecodeError as error:
            log.warning("acknowledgement on %s: %s", message.subject, error)
            return
        ledger.acknowledge(acknowledgement)
        learn_capacity(acknowledgement.node, acknowledgement.capacity)
        progressed.notify()

    subscription = await bus.subscribe(bus.subjects.ack(), deliver)
    try:
        await asyncio.Event().wait()
    finally:
        await bus.unsubscribe(subscription)
