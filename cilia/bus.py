"""The bus: a thin layer over nats-py for publishing, subscribing, and typed requests in JSON.

The bus only distributes; the truth is in the kvstore, so losing a message must cost no more than
asking again. A :class:`Bus` reconnects for ever with short, jittered pauses. Calls are served in
cilia.calls.
"""

import asyncio
import logging
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from cilia.contracts.messages import Message, Reply
from cilia.contracts.subjects import Subjects
from cilia.errors import Refused, TooLarge, Unavailable
from cilia.metrics import counter
from cilia.telemetry import TRACEPARENT, traceparent

log = logging.getLogger(__name__)

R = TypeVar("R")
Deliver = Callable[[Msg], Awaitable[None]]

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 2.0
_HEADER_LINES = len("NATS/1.0\r\n\r\n")
"""What stands around a message's headers; the server counts them, and what it takes for a name and
a value.
"""


class BusConfig(Struct, frozen=True, kw_only=True):
    """How to reach the bus, and as whom."""

    urls: tuple[str, ...] = ("nats://127.0.0.1:4222",)
    ca_file: str = ""
    """PEM of the authority that signed the server; turns TLS on."""
    certificate_file: str = ""
    key_file: str = ""
    """PEM of this client's certificate and key, for mutual TLS."""
    nkey_seed_file: str = ""
    credentials_file: str = ""
    """A NATS ``.creds`` file (JWT and seed)."""
    connect_seconds: float = 30.0
    """How long to wait for the first connection; whoever doesn't wait for it tries for ever."""


@dataclass(slots=True)
class BusCounters:
    """What happened on one connection."""

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
        """Call ``listener`` after each loss and return of the connection: messages may have been
        missed.
        """
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
        carried = _with_trace(headers)
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
        size = len(payload) + sum(len(name) + len(value) + 4 for name, value in (headers or {}).items())
        size += _HEADER_LINES if headers else 0
        if size > self._client.max_payload:
            raise TooLarge(what, size, self._client.max_payload)

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
        payload, headers = msgspec.json.encode(message), _with_trace(None)
        self.check_size(f"the request {service}.{call}", payload, headers)
        try:
            answer = await self._client.request(subject, payload, timeout=timeout, headers=headers)
            reply: Reply[R] = _reply_decoder(reply_type).decode(answer.data)  # type: ignore[arg-type]
        except nats.errors.NoRespondersError as error:
            raise Unavailable(service, f"nobody serves {call!r}") from error
        except nats.errors.TimeoutError as error:
            raise Unavailable(service, f"no answer to {call!r} within {timeout:g} s") from error
        except nats.errors.Error as error:
            raise Unavailable("bus", f"can't ask {service} for {call!r}: {error or type(error).__name__}") from error
        except msgspec.DecodeError as error:
            raise Unavailable(service, f"garbled answer to {call!r}: {error}") from error
        if reply.problem is not None:
            raise Refused(reply.problem)
        if reply.ok is None:
            raise Unavailable(service, f"empty answer to {call!r}")
        return reply.ok

    def _require_opened(self) -> None:
        if not self._opened.is_set():
            raise Unavailable("bus", "not connected yet")

    async def _on_disconnect(self) -> None:
        if self._connected.is_set():
            self.counters.disconnects += 1
            log.warning("lost the connection to the bus")
        self._connected.clear()
        self._lost.set()

    async def _on_reconnect(self) -> None:
        self.counters.reconnects += 1
        log.info("connected to the bus again", extra={"url": self._client.connected_url.netloc})
        self._stands()
        for listener in self._listeners:
            listener()

    def _stands(self) -> None:
        self._lost.clear()
        self._opened.set()
        self._connected.set()

    async def _on_error(self, error: Exception) -> None:
        if isinstance(error, nats.errors.SlowConsumerError):
            self.counters.slow_consumer_drops += 1
        elif isinstance(error, nats.errors.Error | OSError):
            level = logging.WARNING if self.connected else logging.DEBUG
            log.log(level, "bus: %s", error or type(error).__name__)
        else:
            log.error("a subscription's callback failed", exc_info=error)

    async def _close(self) -> None:
        if self.connected:
            try:
                await self.flush(timeout=1.0)
            except Unavailable as error:
                log.warning("closing: %s", error)
        self._connected.clear()  # from here on a disconnect is ours
        await self._client.close()
        for flush in self._flushes:
            flush.cancel()


@lru_cache
def _reply_decoder(reply_type: Hashable) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(Reply[reply_type])  # type: ignore[valid-type]


def _with_trace(headers: Mapping[str, str] | None) -> dict[str, str] | None:
    context = traceparent()
    if not context:
        return dict(headers) if headers else None
    return {TRACEPARENT: context, **(headers or {})}


@asynccontextmanager
async def connect_bus(config: BusConfig, *, cluster: str, name: str) -> AsyncIterator[Bus]:
    """Connect as ``name``, which also names the client's inboxes: ``_INBOX.<name>.>``.

    Raises:
        Unavailable: No server accepted the client within ``config.connect_seconds``.
    """
    client = Client()
    bus = Bus(client, Subjects(cluster))
    try:
        async with asyncio.timeout(config.connect_seconds):
            await _connect(client, bus, config, name)
    except (TimeoutError, nats.errors.Error, OSError) as error:
        reason = str(client.last_error or error) or type(error).__name__
        await client.close()
        raise Unavailable("bus", f"no connection to {', '.join(config.urls)}: {reason}") from error
    try:
        yield bus
    finally:
        await bus._close()


@asynccontextmanager
async def open_bus(config: BusConfig, *, cluster: str, name: str) -> AsyncIterator[Bus]:
    """Connect as :func:`connect_bus` does, without waiting: the first connection is tried for ever,
    beside the block.

    Until it stands, requests and publications raise Unavailable, and subscriptions wait.
    """
    client = Client()
    bus = Bus(client, Subjects(cluster))
    connecting = asyncio.create_task(_connect_at_last(client, bus, config, name), name="first connection")
    try:
        yield bus
    finally:
        connecting.cancel()
        await asyncio.wait([connecting])
        await bus._close()


async def _connect_at_last(client: Client, bus: Bus, config: BusConfig, name: str) -> None:
    while True:
        try:
            await _connect(client, bus, config, name)
            return
        except (nats.errors.Error, OSError) as error:
            log.warning("no connection to the bus: %s", error or type(error).__name__)
        await asyncio.sleep(LONGEST_PAUSE_SECONDS * random.uniform(0.5, 1.0))


async def _connect(client: Client, bus: Bus, config: BusConfig, name: str) -> None:
    await client.connect(
        list(config.urls),
        name=name,
        inbox_prefix=f"_INBOX.{name}",
        error_cb=bus._on_error,
        disconnected_cb=bus._on_disconnect,
        reconnected_cb=bus._on_reconnect,
        max_reconnect_attempts=-1,
        reconnect_time_wait=FIRST_PAUSE_SECONDS * 4,
        reconnect_to_server_handler=_next_server,
        ping_interval=10,
        **_authentication(config),
    )
    bus._stands()


def _next_server(servers: list[Any], _info: object) -> tuple[Any, float]:
    """Choose the server that failed least; wait longer with each of its failures, with jitter."""
    server = min(servers, key=lambda each: (each.reconnects, random.random()))
    pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(server.reconnects, 10))
    return server, pause * random.uniform(0.5, 1.0)


def _authentication(config: BusConfig) -> dict[str, object]:
    options: dict[str, object] = {}
    if config.ca_file:
        options["tls"] = ssl.create_default_context(cafile=config.ca_file)
        if config.certificate_file:
            options["tls"].load_cert_chain(config.certificate_file, config.key_file)  # type: ignore[attr-defined]
    if config.nkey_seed_file:
        options["nkeys_seed"] = config.nkey_seed_file
    if config.credentials_file:
        options["user_credentials"] = config.credentials_file
    return options
