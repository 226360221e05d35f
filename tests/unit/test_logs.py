"""Log lines: text for people, JSON for machines."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from cilia.logs import JsonFormatter, LogConfig, TextFormatter, open_logs


def record(
    message: str = "granted %s", *args: object, error: Exception | None = None, **fields: object
) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    made = logging.getLogger("cilia.x").makeRecord("cilia.x", logging.INFO, "f", 1, message, args, info, extra=fields)
    made.created = 1_700_000_000.123
    return made


def failure() -> ValueError:
    try:
        raise ValueError("broken")
    except ValueError as error:
        return error


def test_a_line_of_text_has_time_level_service_logger_message_and_fields() -> None:
    line = TextFormatter("ipam").format(record("granted %s", "10.0.0.0/26", node="n1", lease=7))
    assert line == "2023-11-14T22:13:20.123Z info ipam cilia.x: granted 10.0.0.0/26 node=n1 lease=7"


def test_a_line_of_json_has_the_same_and_parses() -> None:
    entry = json.loads(JsonFormatter("ipam").format(record("granted %s", "10.0.0.0/26", node="n1")))
    assert entry == {
        "time": "2023-11-14T22:13:20.123Z",
        "level": "info",
        "service": "ipam",
        "logger": "cilia.x",
        "message": "granted 10.0.0.0/26",
        "node": "n1",
    }


def test_a_field_that_json_does_not_know_is_written_as_text() -> None:
    entry = json.loads(JsonFormatter("ipam").format(record("x", path=object)))
    assert entry["path"] == "<class 'object'>"


def test_an_error_brings_its_traceback() -> None:
    text = TextFormatter("ipam").format(record("failed", error=failure()))
    assert text.splitlines()[0].endswith("cilia.x: failed")
    assert text.endswith("ValueError: broken")
    entry = json.loads(JsonFormatter("ipam").format(record("failed", error=failure())))
    assert entry["error"].endswith("ValueError: broken")


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield logging.root
    logging.basicConfig(handlers=handlers, level=level, force=True)


def test_what_is_below_the_level_is_left_out(root: logging.Logger) -> None:
    stream = io.StringIO()
    open_logs(LogConfig(level="warning"), "ipam", stream)
    root.info("not this")
    root.warning("but this")
    assert [line.partition(": ")[2] for line in stream.getvalue().splitlines()] == ["but this"]
