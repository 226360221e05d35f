"""A fake bus: a broker in memory that delivers at once, and loses what a test wants lost."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar, cast

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from cilia.bus import Bus, BusCounters
from cilia.bus.client import Deliver
from cilia.bus.payload import read_reply, require_fit, with_patience
from cilia.contracts.messages import Message
from cilia.contracts.subjects import Subjects
from cilia.errors import Unavailable
from cilia.notify import Broadcast

R = TypeVar("R")
MOST_BYTES = 1_048_576


@dataclass(frozen=True)
class Sent:
    """A message as subscribers see it."""

    subject: str
    data: bytes
    reply: str = ""
    headers: Mapping[str, str] | None = None


@dataclass(eq=False)
class _Subscription:
    pattern: tuple[str, ...]
    deliver: Deliver
    queue: str
    bus: "FakeBus"


@dataclass
class Broker:
    """Broker between the fake buses of a test."""

    sent: list[Sent] = field(default_factory=list)
    """All messages, also lost ones."""
    loses: Callable[[Sent], bool] = lambda _: False
    subscriptions: list[_Subscription] = field(default_factory=list)
    inboxes: Any = field(default_factory=count)

    def bus(self) -> "FakeBus":
        """Return another connection."""
        return FakeBus(self)

    def subjects_sent(self) -> list[str]:
        """Return the subjects of all messages, without what all have in common."""
        return [message.subject.removeprefix("cilia.v1.test.") for message in self.sent]

    async def route(self, message: Sent) -> None:
        """Hand a message to its subscribers: of a queue group to one."""
        self.sent.append(message)
        if self.loses(message):
            return
        tokens = tuple(message.subject.split("."))
        taken = [each for each in self.subscriptions if each.bus.connected and _matches(each.pattern, tokens)]
        queues: set[str] = set()
        for each in taken:
            if not each.queue or each.queue not in queues:
                queues.add(each.queue)
                await each.deliver(cast(Msg, message))
        if not taken and message.reply:
            await self.route(Sent(message.reply, b""))  # as the server does: no responders


def _matches(pattern: tuple[str, ...], tokens: tuple[str, ...]) -> bool:
    return len(pattern) == len(tokens) and all(
        ours in ("*", theirs) for ours, theirs in zip(pattern, tokens, strict=True)
    )


class FakeBus(Bus):
    """A connection to the broker; ``disconnect`` and ``reconnect`` are a test's to call."""

    def __init__(self, broker: Broker) -> None:
        self.subjects = Subjects("test")
        self.counters = BusCounters()
        self._broker = broker
        self._stands = True
        self._returned = Broadcast()
        self._listeners: list[Callable[[], None]] = []

    @property
    def connected(self) -> bool:
        return self._stands

    def disconnect(self) -> None:
        """Lose the connection."""
        self._stands = False

    def reconnect(self) -> None:
        """Have the connection again."""
        self._stands = True
        self._returned.notify()
        for listener in self._listeners:
            listener()

    async def wait_connected(self) -> None:
        await self._returned.wait_until(lambda: self._stands)

    def new_inbox(self) -> str:
        return f"_INBOX.{next(self._broker.inboxes)}"

    async def publish(
        self, subject: str, payload: bytes, *, headers: Mapping[str, str] | None = None, reply: str = ""
    ) -> None:
        if not self._stands:
            raise Unavailable("bus", "the connection is away")
        await self._broker.route(Sent(subject, payload, reply, headers))

    def check_size(self, what: str, payload: bytes, headers: Mapping[str, str] | None = None) -> None:
        require_fit(what, payload, headers, MOST_BYTES)

    async def subscribe(self, subject: str, deliver: Deliver, *, queue: str = "") -> Subscription:
        made = _Subscription(tuple(subject.split(".")), deliver, queue, self)
        self._broker.subscriptions.append(made)
        return cast(Subscription, made)

    async def unsubscribe(self, subscription: Subscription) -> None:
        self._broker.subscriptions.remove(cast(_Subscription, subscription))

    async def flush(self, timeout: float = 5.0) -> None:
        if not self._stands:
            raise Unavailable("bus", "the connection is away")

    async def request(self, subject: str, message: Message, reply_type: type[R], *, timeout: float = 5.0) -> R:
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def deliver(reply: Msg) -> None:
            if not answered.done():
                answered.set_result(reply.data)

        inbox = self.new_inbox()
        service, call = subject.split(".")[-2:]
        subscription = await self.subscribe(inbox, deliver)
        try:
            async with asyncio.timeout(timeout):
                headers = with_patience(timeout)
                await self.publish(subject, msgspec.json.encode(message), reply=inbox, headers=headers)
                payload = await answered
        except TimeoutError:
            raise Unavailable(service, f"no answer to {call!r} within {timeout:g} s") from None
        finally:
            await self.unsubscribe(subscription)
        if not payload:
            raise Unavailable(service, f"nobody serves {call!r}")
        return read_reply(payload, reply_type, service=service, call=call)
