"""Bus: one connection, on which to publish, subscribe, and ask."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from cilia.bus.payload import read_reply, require_fit, with_patience, with_trace
from cilia.contracts.messages import Message
from cilia.contracts.subjects import Subjects
from cilia.errors import TooLarge, Unavailable
from cilia.metrics import counter

log = logging.getLogger(__name__)

R = TypeVar("R")
Deliver = Callable[[Msg], Awaitable[None]]


@dataclass(slots=True)
class BusCounters:
    """Losses of one connection."""

    disconnects: int = counter("connections to the bus that were lost")
    reconnects: int = counter("connections to the bus that came back")
    slow_consumer_drops: int = counter("messages that the client library dropped since a subscription lagged")


class Bus:
    """A connection to the bus of one cluster. Made by :func:`connect_bus`."""

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._client = client
        self.subjects = subjects
        self.counters = BusCounters()
        self._opened = asyncio.Event()  # the first connection has been made
        self._connected = asyncio.Event()
        self._lost = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self._flushes: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> bool:
        """Tell whether the connection stands."""
        return self._connected.is_set()

    async def wait_connected(self) -> None:
        """Wait until the connection stands."""
        await self._connected.wait()

    def on_reconnect(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever the connection is back: messages may have been missed."""
        self._listeners.append(listener)

    def new_inbox(self) -> str:
        """Return a fresh subject that only this client listens to."""
        return str(self._client.new_inbox())

    async def publish(
        self, subject: str, payload: bytes, *, headers: Mapping[str, str] | None = None, reply: str = ""
    ) -> None:
        """Send a message; it may be lost, as all on the bus. The current span's context goes along.

        Raises:
            Unavailable: The connection is away, and its buffer full; or there was none yet; or the
                message is too large.
        """
        self._require_opened()
        carried = with_trace(headers)
        try:
            self.check_size("the message", payload, carried)
            await self._client.publish(subject, payload, reply=reply, headers=carried)
        except TooLarge as error:
            raise Unavailable("bus", f"can't publish on {subject}: {error.problem.message}") from error
        except nats.errors.Error as error:
            raise Unavailable("bus", f"can't publish on {subject}: {error or type(error).__name__}") from error

    def check_size(self, what: str, payload: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Let a message pass that the server takes; one that it doesn't would cost the connection.

        Raises:
            TooLarge: It has too many bytes, headers included; says how many, and the limit.
        """
        require_fit(what, payload, headers, self._client.max_payload)

    async def subscribe(self, subject: str, deliver: Deliver, *, queue: str = "") -> Subscription:
        """Have ``deliver`` called with each message; it must be quick, and hand over to a loop.

        Waits for the first connection; subscriptions outlive later losses of it. Messages that
        arrive faster than ``deliver`` returns are dropped beyond the library's limits: a gap.
        """
        await self._opened.wait()
        return await self._client.subscribe(subject, queue=queue, cb=deliver)

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription; harmless after the connection has closed."""
        try:
            await subscription.unsubscribe()
        except (nats.errors.ConnectionClosedError, nats.errors.BadSubscriptionError) as error:
            log.debug("unsubscribed too late: %s", error)

    async def flush(self, timeout: float = 5.0) -> None:
        """Wait until the server has seen all that was sent.

        Raises:
            Unavailable: The connection broke meanwhile, or ``timeout`` seconds passed.
        """
        self._require_opened()
        # Never cancel nats-py's own flush on a live connection: the late PONG would set a cancelled
        # future, and the InvalidStateError would end its read loop. A lost connection forgets its
        # PONGs, so then it is safe.
        flush = asyncio.create_task(self._client.flush(timeout=86_400))
        lost = asyncio.create_task(self._lost.wait())
        self._flushes.add(flush)
        flush.add_done_callback(self._flush_done)
        try:
            await asyncio.wait((flush, lost), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost.cancel()
        if flush.done() and flush.exception() is None:
            return
        if not self.connected:
            flush.cancel()
        raise Unavailable("bus", f"not flushed within {timeout:g} s" if self.connected else "the connection broke")

    def _flush_done(self, flush: "asyncio.Task[None]") -> None:
        self._flushes.discard(flush)
        if not flush.cancelled() and flush.exception():
            log.debug("flush: %s", flush.exception())

    async def request(self, subject: str, message: Message, reply_type: type[R], *, timeout: float = 5.0) -> R:
        """Ask and await the answer.

        Args:
            timeout: Seconds.

        Raises:
            Refused: The service answered with a problem.
            TooLarge: The request has more bytes than the bus takes.
            Unavailable: Nobody serves the call, or nobody answered in time.
        """
        self._require_opened()
        service, call = subject.split(".")[-2:]
        payload, headers = msgspec.json.encode(message), with_patience(timeout)
        self.check_size(f"the request {service}.{call}", payload, headers)
        try:
            answer = await self._client.request(subject, payload, timeout=timeout, headers=headers)
        except nats.errors.NoRespondersError as error:
            raise Unavailable(service, f"nobody serves {call!r}") from error
        except nats.errors.TimeoutError as error:
            raise Unavailable(service, f"no answer to {call!r} within {timeout:g} s") from error
        except nats.errors.Error as error:
            raise Unavailable("bus", f"can't ask {service} for {call!r}: {error or type(error).__name__}") from error
        return read_reply(answer.data, reply_type, service=service, call=call)

    def _require_opened(self) -> None:
        if not self._opened.is_set():
            raise Unavailable("bus", "not connected yet")

    async def on_disconnect(self) -> None:
        """Note that the connection is lost; called by nats-py, also for one that was closed."""
        if self._connected.is_set():
            self.counters.disconnects += 1
            log.warning("lost the connection to the bus")
        self._connected.clear()
        self._lost.set()

    async def on_reconnected(self) -> None:
        """Note that the connection is back; called by nats-py."""
        self.counters.reconnects += 1
        log.info("connected to the bus again", extra={"url": self._client.connected_url.netloc})
        self.on_connect()
        for listener in self._listeners:
            listener()

    def on_connect(self) -> None:
        """Note that the connection stands."""
        self._lost.clear()
        self._opened.set()
        self._connected.set()

    async def on_error(self, error: Exception) -> None:
        """Count or log what nats-py reports."""
        if isinstance(error, nats.errors.SlowConsumerError):
            self.counters.slow_consumer_drops += 1
        elif isinstance(error, nats.errors.Error | OSError):
            level = logging.WARNING if self.connected else logging.DEBUG
            log.log(level, "bus: %s", error or type(error).__name__)
        else:
            log.error("a subscription's callback failed", exc_info=error)

    async def close(self) -> None:
        """Flush, for a second at most, and close."""
        if self.connected:
            try:
                await self.flush(timeout=1.0)
            except Unavailable as error:
                log.warning("closing: %s", error)
        self._connected.clear()  # from here on a disconnect is ours
        await self._client.close()
        for flush in self._flushes:
            flush.cancel()
