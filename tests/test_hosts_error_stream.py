"""`wsgi.errors`: whole lines become log events, whichever way they are written."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.log_events import PATIENCE_SECONDS, LogEvents
from uwsgibridge.hosts.error_stream import ErrorStream
from uwsgibridge.telemetry.logs import make_logger


class Errors:
    """A stream, and the lines that it has logged."""

    def __init__(self) -> None:
        self.log = LogEvents()
        self.stream = ErrorStream(make_logger("json", "debug", self.log).bind(app="an:app"))

    @property
    def lines(self) -> list[Any]:
        return [event["line"] for event in self.log.find()]


@pytest.fixture
def errors() -> Errors:
    return Errors()


def test_line_is_an_event(errors: Errors):
    assert errors.stream.write("a line\n") == 7

    (event,) = errors.log.find()
    assert event["event"] == "application wrote to wsgi.errors"
    assert event["level"] == "warning"
    assert event["app"] == "an:app"
    assert event["line"] == "a line"


def test_line_in_pieces_is_one_event(errors: Errors):
    for piece in ("a ", "", "li", "ne"):
        errors.stream.write(piece)
    assert errors.lines == []
    errors.stream.write("\nand ")
    assert errors.lines == ["a line"]
    errors.stream.write("another\n")
    assert errors.lines == ["a line", "and another"]


def test_several_lines_are_several_events(errors: Errors):
    errors.stream.write("one\r\ntwo\n\n   \nthree\nfour")
    assert errors.lines == ["one", "two", "three"]


def test_writelines_writes_each(errors: Errors):
    errors.stream.writelines(["one\n", "tw", "o\n"])
    assert errors.lines == ["one", "two"]


def test_flush_ends_a_line(errors: Errors):
    errors.stream.write("not ended")
    errors.stream.flush()
    errors.stream.flush()
    assert errors.lines == ["not ended"]
    errors.stream.write("the next\n")
    assert errors.lines == ["not ended", "the next"]


def test_flush_of_nothing_logs_nothing(errors: Errors):
    errors.stream.flush()
    assert errors.lines == []


def test_works_with_print_and_logging(errors: Errors):
    import logging

    print("from", "print", file=errors.stream, flush=True)
    handler = logging.StreamHandler(errors.stream)
    handler.handle(logging.makeLogRecord({"msg": "from logging"}))
    assert errors.lines == ["from print", "from logging"]


def test_tells_a_traceback_line_by_line(errors: Errors):
    import traceback

    try:
        raise ValueError("of the application")
    except ValueError:
        traceback.print_exc(file=errors.stream)
    assert errors.lines[0] == "Traceback (most recent call last):"
    assert errors.lines[-1] == "ValueError: of the application"


def test_lines_of_threads_are_not_mixed(errors: Errors):
    """Each thread's unfinished line is its own."""
    turns = [threading.Event() for _ in range(4)]

    def write_one() -> None:
        errors.stream.write("first ")
        turns[0].set()
        assert turns[1].wait(PATIENCE_SECONDS)
        errors.stream.write("thread\n")
        turns[2].set()

    thread = threading.Thread(target=write_one)
    thread.start()
    assert turns[0].wait(PATIENCE_SECONDS)
    errors.stream.write("second ")
    turns[1].set()
    assert turns[2].wait(PATIENCE_SECONDS)
    errors.stream.write("thread\n")
    thread.join(PATIENCE_SECONDS)

    assert errors.lines == ["first thread", "second thread"]


@pytest.mark.parametrize("what", [b"bytes\n", None, 5, ["a\n"]])
def test_what_is_no_text_is_refused(errors: Errors, what: Any):
    with pytest.raises(TypeError):
        errors.stream.write(what)
    assert errors.lines == []
    errors.stream.write("text\n")
    assert errors.lines == ["text"]


def test_line_cannot_forge_an_event(errors: Errors):
    errors.stream.write('", "event": "forged\x1b[31m\n')
    (event,) = errors.log.find()
    assert event["event"] == "application wrote to wsgi.errors"
    assert event["line"] == '", "event": "forged\x1b[31m'


MAX_UNFINISHED_CHARACTERS = 65_536


def test_line_without_an_end_is_logged_in_pieces(errors: Errors):
    errors.stream.write("x" * MAX_UNFINISHED_CHARACTERS)
    assert errors.lines == []
    errors.stream.write("y")
    assert errors.lines == ["x" * MAX_UNFINISHED_CHARACTERS + "y"]
    errors.stream.write("the rest\n")
    assert errors.lines[1:] == ["the rest"]


def test_line_of_many_pieces_is_never_held_whole(errors: Errors):
    for _ in range(200_000):
        errors.stream.write("x")
    errors.stream.flush()
    assert "".join(errors.lines) == "x" * 200_000
    assert max(map(len, errors.lines)) == MAX_UNFINISHED_CHARACTERS + 1


def test_unfinished_line_of_a_thread_is_logged_at_its_end(errors: Errors):
    """A thread of the application's own has no request at whose end that would happen."""

    def write_one(name: str) -> None:
        errors.stream.write(f"{name} begun\nlast words of {name}")

    for name in ("one", "two"):
        thread = threading.Thread(target=write_one, args=(name,))
        thread.start()
        errors.log.wait(line=f"last words of {name}")
        thread.join(PATIENCE_SECONDS)
    assert errors.lines == ["one begun", "last words of one", "two begun", "last words of two"]
