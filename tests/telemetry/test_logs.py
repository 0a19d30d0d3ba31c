"""Log events: text for people, JSON for machines, and nobody else's logging touched."""

from __future__ import annotations

import datetime as dt
import io
import json
import logging
from typing import Any

import pytest
import structlog

from uwsgibridge.telemetry.logs import make_logger


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def failure() -> BaseException:
    try:
        raise ValueError("the reason")
    except ValueError as error:
        return error


def test_json_is_one_object_a_line():
    stream = io.StringIO()
    log = make_logger("json", stream=stream)
    log.info("listening", address="127.0.0.1:3031")
    log.bind(app="site:app").error("failed", detail="two\nlines", number=1)

    first, second = events(stream)
    timestamp = dt.datetime.fromisoformat(first.pop("timestamp"))
    assert timestamp.utcoffset() == dt.timedelta(0)
    assert first == {"event": "listening", "level": "info", "address": "127.0.0.1:3031"}
    assert second["app"] == "site:app"
    assert second["detail"] == "two\nlines"
    assert second["number"] == 1


def test_json_has_the_traceback_in_its_line():
    stream = io.StringIO()
    make_logger("json", stream=stream).error("failed", exc_info=failure())

    (event,) = events(stream)
    assert event["exception"].startswith("Traceback (most recent call last):")
    assert event["exception"].endswith("ValueError: the reason")


def test_json_takes_what_json_does_not_know():
    stream = io.StringIO()
    make_logger("json", stream=stream).info("odd", value=object(), data=b"\xff", text="\udcff")

    (event,) = events(stream)
    assert event["data"] == repr(b"\xff")
    assert "object" in event["value"]


@pytest.mark.parametrize(
    ("log_format", "stream", "is_json"),
    [
        ("auto", io.StringIO(), True),
        ("auto", Terminal(), False),
        ("json", Terminal(), True),
        ("text", io.StringIO(), False),
    ],
    ids=["auto-file", "auto-terminal", "json-terminal", "text-file"],
)
def test_the_format_is_the_chosen_one(log_format: str, stream: io.StringIO, is_json: bool):
    make_logger(log_format, stream=stream).info("listening", address="127.0.0.1:3031")

    line = stream.getvalue()
    assert line.startswith("{") == is_json
    assert "listening" in line
    assert "127.0.0.1:3031" in line
    assert line.endswith("\n")


@pytest.mark.parametrize(("stream", "coloured"), [(Terminal(), True), (io.StringIO(), False)])
def test_text_has_colours_only_on_a_terminal(stream: io.StringIO, coloured: bool):
    make_logger("text", stream=stream).error("failed", exc_info=failure())

    assert ("\x1b[" in stream.getvalue()) == coloured
    # Plain as Python prints it, without the values of local variables.
    assert "Traceback (most recent call last):" in stream.getvalue()
    assert "ValueError: the reason" in stream.getvalue()


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["terminal", "file"])
@pytest.mark.parametrize("path", ["/\x1b[2J", "/\x07", "/\x9b2J", "/a\nb", "/a\rb", "/\x1b[2J b"])
def test_text_from_clients_reaches_a_terminal_only_escaped(stream: io.StringIO, path: str):
    stream.seek(0)
    stream.truncate()
    make_logger("text", stream=stream).warning("refused", path=path)

    (line,) = stream.getvalue().split("\n")[:-1]
    assert path not in line
    assert not set("\r\x07\x9b") & set(line)
    assert "\x1b[2J" not in line


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_level_is_the_least_that_is_written(level: str, written: list[str]):
    stream = io.StringIO()
    log = make_logger("json", level, stream)
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("event")

    assert [event["level"] for event in events(stream)] == written


def test_standard_error_is_where_it_goes(capsys: pytest.CaptureFixture[str]):
    make_logger("json").info("listening")

    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["event"] == "listening"


@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize("error", [BrokenPipeError, ValueError], ids=["pipe", "closed"])
def test_log_that_can_not_be_written_is_no_failure(log_format: str, error: type[Exception]):
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    make_logger(log_format, stream=Broken()).error("failed")


def test_configuration_of_the_application_is_left_alone():
    before = structlog.get_config()
    level, handlers = logging.root.level, list(logging.root.handlers)
    stream = io.StringIO()
    log = make_logger("json", stream=stream)
    with structlog.testing.capture_logs() as captured:
        log.info("ours")
        structlog.get_logger().info("theirs")

    assert structlog.get_config() == before
    assert (logging.root.level, logging.root.handlers) == (level, handlers)
    assert [event["event"] for event in captured] == ["theirs"]
    assert [event["event"] for event in events(stream)] == ["ours"]


def test_context_of_a_request_is_in_its_events():
    stream = io.StringIO()
    log = make_logger("json", stream=stream)
    with structlog.contextvars.bound_contextvars(request_id="abc"):
        log.info("inside")
    log.info("outside")

    inside, outside = events(stream)
    assert inside["request_id"] == "abc"
    assert "request_id" not in outside
