"""Calls to whichever etcd answers: one channel per endpoint, the next one tried when one is gone.

A read is tried again until the time is up. A write is tried again only if it can't have been sent:
whether a lost one was carried out is for its caller to find out. A token that etcd no longer knows
is renewed once, however many calls met it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import grpc

from cilia.backoff import Backoff
from cilia.errors import Unavailable
from cilia.kvstore.config import EtcdConfig
from cilia.kvstore.errors import (
    Compacted,
    KvstoreError,
    KvstoreRefused,
    LeaseNotFound,
    LimitsDiffer,
    NotAuthorised,
)
from cilia.kvstore.schema import message

FIRST_PAUSE_SECONDS: Final = 0.02
LONGEST_PAUSE_SECONDS: Final = 0.5
_OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1_000),  # despite its name the least time that an attempt to connect is given
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)
_HAS_LEADER: Final = ("hasleader", "true")  # a member cut off from its leader refuses instead of serving stale state
_AUTHENTICATE: Final = "Auth/Authenticate"
_STALE_TOKEN: Final = ("invalid auth token", "revision of auth store is old")
_TOO_LARGE: Final = ("too many operations", "request is too large", "received message larger than max")
_UNREACHED: Final = ("failed to connect", "Connection refused", "connection attempt timed out", "No route to host")


class Channel:
    """Channels to all endpoints, and a token where users are in force."""

    def __init__(self, config: EtcdConfig) -> None:
        self._config = config
        self._channels = [_open(endpoint, config) for endpoint in config.endpoints]
        self._current = 0
        self._token = ""
        self._renewal = asyncio.Lock()

    @property
    def who(self) -> str:
        """Name of what is called, for errors."""
        return f"etcd at {', '.join(self._config.endpoints)}"

    @property
    def timeout_seconds(self) -> float:
        """Bound of one call."""
        return self._config.timeout_seconds

    @property
    def token(self) -> str:
        """Token that calls carry now; empty without a user."""
        return self._token

    async def close(self) -> None:
        """Close all connections."""
        for channel in self._channels:
            await channel.close(None)

    async def authenticate(self, stale: str = "") -> None:
        """Get a token for the configured user, if there is one, in place of ``stale``.

        Raises:
            NotAuthorised: User or password is wrong.
        """
        if not self._config.user:
            return
        async with self._renewal:
            if self._token != stale:
                return  # another call has renewed it meanwhile
            credentials = message("AuthenticateRequest")(name=self._config.user, password=self._config.password)
            reply = await self.call(_AUTHENTICATE, credentials, "AuthenticateResponse", idempotent=True)
            self._token = reply.token

    async def call(self, method: str, request: Any, reply: str, *, idempotent: bool) -> Any:
        """Make a unary call such as ``KV/Range`` and return the ``reply`` message.

        Raises:
            Unavailable: No endpoint answered in time.
            KvstoreError: etcd refused.
        """

        async def ask() -> Any:
            stub = self._channels[self._current].unary_unary(
                f"/etcdserverpb.{method}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=message(reply).FromString,
            )
            return await stub(request, metadata=self._metadata(method))

        return await self._ask_in_time(ask, method, idempotent)

    async def exchange(self, method: str, request: Any, reply: str) -> Any:
        """Send one message on a stream of its own and return the first answer; may be sent twice.

        Raises:
            Unavailable: No answer in time.
            KvstoreError: etcd refused.
        """

        async def ask() -> Any:
            _, stream = self.open_stream(method, type(request).DESCRIPTOR.name, reply)
            try:
                await stream.write(request)
                return await stream.read()
            finally:
                stream.cancel()

        answer = await self._ask_in_time(ask, method, idempotent=True)
        if answer is grpc.aio.EOF:
            raise Unavailable(self.who, f"{method} ended without an answer")
        return answer

    async def _ask_in_time(self, ask: Callable[[], Awaitable[Any]], method: str, idempotent: bool) -> Any:
        reasons: list[str] = []
        try:
            async with asyncio.timeout(self.timeout_seconds):
                return await self._ask_until_answered(ask, method, idempotent, reasons)
        except TimeoutError:
            self.leave_endpoint(self._current)  # it may hang where another would answer
            last = f" ({reasons[-1]})" if reasons else ""
            raise Unavailable(self.who, f"no answer within {self.timeout_seconds:g} s{last}") from None

    async def _ask_until_answered(
        self, ask: Callable[[], Awaitable[Any]], method: str, idempotent: bool, reasons: list[str]
    ) -> Any:
        backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        while True:
            endpoint, token = self._current, self._token
            try:
                return await ask()
            except grpc.aio.AioRpcError as error:
                if token and is_stale_token(error.details() or ""):
                    await self.authenticate(token)
                    continue
                failure = self.translate(error, method)
                if not isinstance(failure, Unavailable):
                    raise failure from error
                self.leave_endpoint(endpoint)
                if not (idempotent or _was_not_sent(error)):
                    raise failure from error
                reasons.append(failure.reason)
            await backoff.pause()

    def open_stream(self, method: str, request: str, reply: str) -> tuple[int, Any]:
        """Open a two-way stream on the current endpoint; returns the endpoint's index with it."""
        opened = self._channels[self._current].stream_stream(
            f"/etcdserverpb.{method}",
            request_serializer=message(request).SerializeToString,
            response_deserializer=message(reply).FromString,
        )(metadata=self._metadata(method))
        return self._current, opened

    def leave_endpoint(self, endpoint: int) -> None:
        """Use another endpoint than one that broke or hangs, unless that has happened already."""
        if endpoint == self._current:
            self._current = (endpoint + 1) % len(self._channels)

    def translate(self, error: grpc.aio.AioRpcError, call: str) -> KvstoreError | Unavailable:
        """Return our error for one of gRPC's."""
        details = error.details() or ""
        if _is_absence(error):
            return Unavailable(self.who, details)
        return self.refusal(call, error.code().name, details)

    def refusal(self, call: str, status: str, details: str) -> KvstoreError:
        """Return our error for etcd's words, of a call's status or of a watch's cancellation."""
        if "lease not found" in details:
            return LeaseNotFound()
        if "compacted" in details:
            return Compacted(0, 0)
        if any(words in details for words in _TOO_LARGE):
            return LimitsDiffer(details)
        if any(words in details for words in ("auth", "permission denied", "user name is empty")):
            return NotAuthorised(self._config.user, details)
        return KvstoreRefused(call, status, details)

    def _metadata(self, method: str) -> tuple[tuple[str, str], ...]:
        if not self._token or method == _AUTHENTICATE:  # with a stale token even the call for a new one is refused
            return (_HAS_LEADER,)
        return (_HAS_LEADER, ("token", self._token))


def _open(endpoint: str, config: EtcdConfig) -> Any:
    if config.ca is None:
        return grpc.aio.insecure_channel(endpoint, options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=config.ca.read_bytes(),
        private_key=_read(config.key),
        certificate_chain=_read(config.certificate),
    )
    return grpc.aio.secure_channel(endpoint, credentials, options=_OPTIONS)


def _read(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _is_absence(error: grpc.aio.AioRpcError) -> bool:
    return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


def _was_not_sent(error: grpc.aio.AioRpcError) -> bool:
    return any(words in (error.details() or "") for words in _UNREACHED)


def is_stale_token(details: str) -> bool:
    """Tell whether etcd refused for a token that it no longer knows."""
    return any(words in details for words in _STALE_TOKEN)
