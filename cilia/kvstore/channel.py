"""Calls to whichever etcd answers: one channel per endpoint, the next one tried when one is gone.

A read is tried again until the time is up. A write is tried again only if it can't have been sent: whether a lost one was
carried out is for its caller to find out.
"""

import asyncio
import random
from pathlib import Path
from typing import Any, Final

import grpc

from cilia.errors import Unavailable
from cilia.kvstore.config import EtcdConfig
from cilia.kvstore.errors import Compacted, KvstoreError, KvstoreRefused, LeaseNotFound, NotAuthorised
from cilia.kvstore.schema import message

_OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)
_HAS_LEADER: Final = ("hasleader", "true")  # a member cut off from its leader refuses instead of serving stale state
_UNREACHED: Final = ("failed to connect", "Connection refused", "connection attempt timed out", "No route to host")


class Channel:
    """Channels to all endpoints, and a token where users are in force."""

    def __init__(self, config: EtcdConfig) -> None:
        self._config = config
        self._channels = [_open(endpoint, config) for endpoint in config.endpoints]
        self._current = 0
        self._token = ""

    @property
    def _who(self) -> str:
        return f"etcd at {', '.join(self._config.endpoints)}"

    async def close(self) -> None:
        """Close all connections."""
        for channel in self._channels:
            await channel.close(None)

    async def authenticate(self) -> None:
        """Get a token for the configured user; without a user there is nothing to do.

        Raises:
            NotAuthorised: User or password is wrong.
        """
        if self._config.user:
            credentials = message("AuthenticateRequest")(name=self._config.user, password=self._config.password)
            self._token = ""
            reply = await self.call("Auth/Authenticate", credentials, "AuthenticateResponse", idempotent=True)
            self._token = reply.token

    async def call(self, method: str, request: Any, reply: str, *, idempotent: bool) -> Any:
        """Make a unary call such as ``KV/Range`` and return the ``reply`` message.

        Raises:
            Unavailable: No endpoint answered in time.
            KvstoreError: etcd refused.
        """
        try:
            async with asyncio.timeout(self._config.timeout_seconds):
                return await self._try_until_answered(method, request, reply, idempotent)
        except TimeoutError:
            raise Unavailable(self._who, f"no answer within {self._config.timeout_seconds:g} s") from None

    async def _try_until_answered(self, method: str, request: Any, reply: str, idempotent: bool) -> Any:
        pause = 0.02
        while True:
            endpoint = self._current
            stub = self._channels[endpoint].unary_unary(
                f"/etcdserverpb.{method}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=message(reply).FromString,
            )
            try:
                return await stub(request, metadata=self._metadata())
            except grpc.aio.AioRpcError as error:
                if _is_stale_token(error) and self._token:
                    await self.authenticate()
                    continue
                if not _is_absence(error):
                    raise self.translate(error, method) from error
                self._leave(endpoint)
                if not (idempotent or _was_not_sent(error)):
                    raise Unavailable(self._who, str(error.details())) from error
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, 0.5)

    def open_stream(self, method: str, request: str, reply: str) -> tuple[int, Any]:
        """Open a two-way stream on the current endpoint; returns the endpoint's index with it."""
        opened = self._channels[self._current].stream_stream(
            f"/etcdserverpb.{method}",
            request_serializer=message(request).SerializeToString,
            response_deserializer=message(reply).FromString,
        )(metadata=self._metadata())
        return self._current, opened

    async def exchange(self, endpoint: int, stream: Any, request: Any, call: str) -> Any:
        """Send one message on a stream, return the first answer and end the stream.

        Raises:
            Unavailable: No answer in time.
            KvstoreError: etcd refused.
        """
        try:
            async with asyncio.timeout(self._config.timeout_seconds):
                await stream.write(request)
                return await stream.read()
        except grpc.aio.AioRpcError as error:
            self._leave(endpoint)
            raise self.translate(error, call) from error
        except TimeoutError:
            self._leave(endpoint)
            raise Unavailable(self._who, f"no answer within {self._config.timeout_seconds:g} s") from None
        finally:
            stream.cancel()

    def leave_endpoint(self, endpoint: int) -> None:
        """Use another endpoint from now on: a stream to this one broke."""
        self._leave(endpoint)

    def translate(self, error: grpc.aio.AioRpcError, call: str) -> KvstoreError | Unavailable:
        """Return our error for one of gRPC's."""
        details = error.details() or ""
        code = error.code()
        if _is_absence(error):
            return Unavailable(self._who, details)
        if "lease not found" in details:
            return LeaseNotFound()
        if "compacted" in details:
            return Compacted(0, 0)
        if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED) or "auth" in details:
            return NotAuthorised(self._config.user, details)
        return KvstoreRefused(call, code.name, details)

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (_HAS_LEADER, ("token", self._token)) if self._token else (_HAS_LEADER,)

    def _leave(self, endpoint: int) -> None:
        if endpoint == self._current:
            self._current = (endpoint + 1) % len(self._channels)


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


def _is_stale_token(error: grpc.aio.AioRpcError) -> bool:
    return "invalid auth token" in (error.details() or "")
