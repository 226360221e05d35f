"""Structured logs on the standard library's logging: text for people, one JSON object a line for
machines.

Fields are passed as ``extra=``: ``log.info("node registered", extra={"node": node})``.
"""

import logging
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

import msgspec
from msgspec import Struct


class LogConfig(Struct, frozen=True, kw_only=True):
    """Settings of a process's log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class TextFormatter(logging.Formatter):
    """``2026-11-22T23:22:37.123Z info ipam cilia.bus: connected url=nats://...``."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, followed by its traceback if it has one."""
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        head = f"{_timestamp(record)} {record.levelname.lower()} {self._service} {record.name}:"
        line = f"{head} {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, service, logger, message, the fields,
    error.
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line; values that JSON doesn't know are written as text."""
        entry: dict[str, object] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry, enc_hook=str).decode()


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def open_logs(config: LogConfig, service: str, stream: TextIO | None = None) -> None:
    """Send all logs of this process to ``stream`` (default: stderr) in the configured form."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(service) if config.format == "json" else TextFormatter(service))
    logging.basicConfig(level=config.level.upper(), handlers=[handler], force=True)
