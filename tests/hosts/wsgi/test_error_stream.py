"""`wsgi.errors`: each write becomes a log event, and each traceback, whichever way they are written."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.log_events import PATIENCE_SECONDS, LogEvents
from uwsgibridge.hosts.wsgi.error_stream import ErrorStream
from uwsgibridge.telemetry.logs import make_logger


class Errors:
    """A stream, and the texts that it has logged."""

    def __init__(self) -> None:
        self.log = LogEvents()
        self.stream = ErrorStream(make_logger("json", "debug", self.log).bind(app="an:app"))

    @property
    def texts(self) -> list[Any]:
        return [event["line"] for event in self.log.find()]


@pytest.fixture
def errors() -> Errors:
    return Errors()


def test_line_is_an_event(errors: Errors):
    assert errors.stream.write("a line\n") == 7

    (event,) = errors.log.find()
    assert event["event"] == "application wrote to wsgi.errors"
    assert event["level"] == "error"
    assert event["app"] == "an:app"
    assert event["line"] == "a line"


def test_line_in_pieces_is_one_event(errors: Errors):
    for piece in ("a ", "", "li", "ne"):
        errors.stream.write(piece)
    assert errors.texts == []
    errors.stream.write("\n")
    assert errors.texts == ["a line"]
    errors.stream.write("and ")
    errors.stream.write("another\n")
    assert errors.texts == ["a line", "and another"]


def test_several_lines_of_one_write_are_one_event(errors: Errors):
    errors.stream.write("one\r\n\ttwo\n\n   \nthree\n")
    assert errors.texts == ["one\r\n\ttwo\n\n   \nthree"]


def test_line_that_is_not_ended_goes_with_what_stands_before_it(errors: Errors):
    errors.stream.write("one\ntw")
    assert errors.texts == []
    errors.stream.write("o\n")
    assert errors.texts == ["one\ntwo"]


def test_nothing_but_blanks_is_no_event(errors: Errors):
    for text in ("\n", "  \n", "", "\n\n"):
        errors.stream.write(text)
    errors.stream.flush()
    assert errors.texts == []


def test_writelines_writes_each(errors: Errors):
    errors.stream.writelines(["one\n", "tw", "o\n"])
    assert errors.texts == ["one", "two"]


def test_flush_ends_a_line(errors: Errors):
    errors.stream.write("not ended")
    errors.stream.flush()
    errors.stream.flush()
    assert errors.texts == ["not ended"]
    errors.stream.write("the next\n")
    assert errors.texts == ["not ended", "the next"]


def test_flush_of_nothing_logs_nothing(errors: Errors):
    errors.stream.flush()
    assert errors.texts == []


def test_works_with_print_and_logging(errors: Errors):
    import logging

    print("from", "print", file=errors.stream, flush=True)
    handler = logging.StreamHandler(errors.stream)
    handler.handle(logging.makeLogRecord({"msg": "from logging"}))
    assert errors.texts == ["from print", "from logging"]


def fail(kind: str) -> None:
    try:
        raise ValueError("of the application")
    except ValueError as error:
        if kind == "plain":
            raise
        if kind == "with a note":
            error.add_note("a note\nof two lines")
            raise
        if kind == "because":
            raise RuntimeError("the second") from error
        if kind == "meanwhile":
            raise RuntimeError("the second")
        raise ExceptionGroup("two", [error, KeyError("another")])


@pytest.mark.parametrize("kind", ["plain", "with a note", "because", "meanwhile", "group"])
@pytest.mark.parametrize("by", ["print_exc", "print_exception", "logging", "format_exc"])
def test_traceback_is_one_event(errors: Errors, kind: str, by: str):
    import logging
    import traceback

    errors.stream.serve_thread()
    try:
        fail(kind)
    except Exception as error:
        if by == "print_exc":
            traceback.print_exc(file=errors.stream)
        elif by == "print_exception":
            traceback.print_exception(error, file=errors.stream)
        elif by == "logging":
            logger = logging.Logger("theirs")  # noqa: LOG001 - nobody else is to know it
            logger.addHandler(logging.StreamHandler(errors.stream))
            logger.exception("it failed")
        else:
            errors.stream.write(traceback.format_exc())
        expected = traceback.format_exc().rstrip()
    # As a host does it at the end of a request.
    assert errors.stream.has_unfinished is (by.startswith("print"))
    errors.stream.flush()
    (text,) = errors.texts
    assert text == (f"it failed\n{expected}" if by == "logging" else expected)


def test_text_after_a_traceback_is_an_event_of_its_own(errors: Errors):
    import traceback

    errors.stream.serve_thread()
    for _ in range(2):
        try:
            fail("because")
        except RuntimeError:
            traceback.print_exc(file=errors.stream)
        errors.stream.write("and now this\n")
    assert [text.splitlines()[-1] for text in errors.texts] == [
        "RuntimeError: the second",
        "and now this",
    ] * 2


def test_traceback_of_a_thread_without_requests_does_not_wait_for_an_end(errors: Errors):
    import traceback

    try:
        fail("plain")
    except ValueError:
        traceback.print_exc(file=errors.stream)
        assert errors.texts == [traceback.format_exc().rstrip()]


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

    assert errors.texts == ["first thread", "second thread"]


@pytest.mark.parametrize("what", [b"bytes\n", None, 5, ["a\n"]])
def test_what_is_no_text_is_refused(errors: Errors, what: Any):
    with pytest.raises(TypeError):
        errors.stream.write(what)
    assert errors.texts == []
    errors.stream.write("text\n")
    assert errors.texts == ["text"]


def test_line_cannot_forge_an_event(errors: Errors):
    errors.stream.write('", "event": "forged\x1b[31m\n')
    (event,) = errors.log.find()
    assert event["event"] == "application wrote to wsgi.errors"
    assert event["line"] == '", "event": "forged\x1b[31m'


MAX_UNFINISHED_CHARACTERS = 65_536


def test_line_without_an_end_is_logged_in_pieces(errors: Errors):
    errors.stream.write("x" * MAX_UNFINISHED_CHARACTERS)
    assert errors.texts == []
    errors.stream.write("y")
    assert errors.texts == ["x" * MAX_UNFINISHED_CHARACTERS + "y"]
    errors.stream.write("the rest\n")
    assert errors.texts[1:] == ["the rest"]


def test_line_of_many_pieces_is_never_held_whole(errors: Errors):
    for _ in range(200_000):
        errors.stream.write("x")
    errors.stream.flush()
    assert "".join(errors.texts) == "x" * 200_000
    assert max(map(len, errors.texts)) == MAX_UNFINISHED_CHARACTERS + 1


def test_unfinished_line_of_a_thread_is_logged_at_its_end(errors: Errors):
    """A thread of the application's own has no request at whose end that would happen."""

    def write_one(name: str) -> None:
        errors.stream.write(f"{name} begun\nlast words of {name}")

    for name in ("one", "two"):
        thread = threading.Thread(target=write_one, args=(name,))
        thread.start()
        errors.log.wait(line=f"{name} begun\nlast words of {name}")
        thread.join(PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("level", "name"),
    [(10, "debug"), (20, "info"), (25, "info"), (30, "warning"), (40, "error"), (50, "error")],
)
def test_what_a_handler_of_logging_writes_has_the_level_of_its_record(
    errors: Errors, level: int, name: str
) -> None:
    import logging

    errors.stream.write("begun")
    handler = logging.StreamHandler(errors.stream)
    try:
        raise ValueError("one\ntwo")
    except ValueError as error:
        raised = (type(error), error, error.__traceback__)
    record = logging.LogRecord("shop.views", level, "views.py", 1, "a\nb", (), raised)
    handler.handle(record)
    begun, event = errors.log.find()
    assert (begun["line"], begun["level"]) == ("begun", "error")
    assert (event["level"], event["logger"]) == (name, "shop.views")
    assert event["line"].startswith("a\nb\nTraceback (most recent call last)")
    assert event["line"].endswith("ValueError: one\ntwo")
