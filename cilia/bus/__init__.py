"""The bus: a thin layer over nats-py for publishing, subscribing, and typed requests in JSON.

The bus only distributes; the truth is in the kvstore, so losing a message must cost no more than
asking again. A :class:`Bus` reconnects for ever with short, jittered pauses. Calls are served in
cilia.calls.
"""

from cilia.bus.client import Bus, BusCounters
from cilia.bus.config import BusConfig
from cilia.bus.connection import connect_bus, open_bus

__all__ = ["Bus", "BusConfig", "BusCounters", "connect_bus", "open_bus"]
