"""Messages of the bus as bytes, without I/O: their size, their trace context, replies decoded."""

from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec

from cilia.contracts.messages import Reply
from cilia.errors import Refused, TooLarge, Unavailable
from cilia.telemetry import TRACEPARENT, traceparent

R = TypeVar("R")

PATIENCE: Final = "Cilia-Patience"
"""Header of a request: seconds for which whoever asks waits for the answer."""

_HEADERS_BYTES: Final = len("NATS/1.0\r\n\r\n")
_HEADER_BYTES: Final = len(": \r\n")
"""Bytes around a header's name and value, which the server counts, too."""


def require_fit(what: str, payload: bytes, headers: Mapping[str, str] | None, most_bytes: int) -> None:
    """Let a message pass that the server takes; one that it doesn't would cost the connection.

    Raises:
        TooLarge: It has too many bytes, headers included; says how many, and the limit.
    """
    size = len(payload) + sum(len(name) + len(value) + _HEADER_BYTES for name, value in (headers or {}).items())
    size += _HEADERS_BYTES if headers else 0
    if size > most_bytes:
        raise TooLarge(what, size, most_bytes)


def with_trace(headers: Mapping[str, str] | None) -> dict[str, str] | None:
    """Return headers with the current span's context, if there is one."""
    context = traceparent()
    if not context:
        return dict(headers) if headers else None
    return {TRACEPARENT: context, **(headers or {})}


def with_patience(seconds: float) -> dict[str, str]:
    """Return the headers of a request that is answered in time or not at all."""
    return {**(with_trace(None) or {}), PATIENCE: f"{seconds:g}"}


def patience_of(headers: Mapping[str, str] | None) -> float:
    """Return for how many seconds an answer is awaited; for ever where that isn't said."""
    try:
        return float((headers or {}).get(PATIENCE, "inf"))
    except ValueError:
        return float("inf")


def read_reply(payload: bytes, reply_type: type[R], *, service: str, call: str) -> R:
    """Decode the reply to a call.

    Raises:
        Refused: The service answered with a problem.
        Unavailable: The reply is garbled, or empty.
    """
    try:
        reply: Reply[R] = _decoder(reply_type).decode(payload)  # type: ignore[arg-type]
    except msgspec.DecodeError as error:
        raise Unavailable(service, f"garbled answer to {call!r}: {error}") from error
    if reply.problem is not None:
        raise Refused(reply.problem)
    if reply.ok is None:
        raise Unavailable(service, f"empty answer to {call!r}")
    return reply.ok


@lru_cache
def _decoder(reply_type: Hashable) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(Reply[reply_type])  # type: ignore[valid-type]
