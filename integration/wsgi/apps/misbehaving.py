"""The catalogue of misbehaving WSGI applications, each with what its client and the operator must see.

Two runners take it: tests/hosts/wsgi/test_misbehaving.py calls each application in a bridge of the test
process, and integration/wsgi/test_misbehaving.py asks `application` through a real Nginx. There, one of
them is called for each path, by its first segment. The bridge has one thread in both, so what one of them
has left behind would be met by the next.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import queue
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from integration.wsgi.fetching import BROKEN

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[Any], object]]

TEXT: Final = [("Content-Type", "text/plain")]

FAILED: Final = "application failed"
BROKE_A_RULE: Final = "application broke a rule"
CUT: Final = "body was longer than its Content-Length: the rest was cut off"
HEAD_TOO_LARGE: Final = "head of the answer is larger than Nginx's buffer: it answers 502"

# What the log says became of the request, by what the client saw.
OUTCOMES: Final[dict[int | str, str]] = {
    200: "the answer was complete",
    500: "answered 500",
    BROKEN: "connection broken",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One application, and what it must lead to.

    Attributes:
        app: the application.
        seen: the status of the answer, or `BROKEN`.
        event: of the log; None for not a word.
        says: part of the event's exception.
        fields: of the event.
        method: to ask with.
        body_bytes: to send.
        text: the body that the client gets, where it matters.
        nginx_status: what Nginx makes of the answer, where that is another status.
        takes_any_body: whether the outcome is the same whatever body is sent: not where it is read, or where a
            client that sends its body first would not take the answer in time.
    """

    app: Callable[[Environ, StartResponse], Any]
    seen: int | str
    event: str | None
    says: str = ""
    fields: dict[str, object] = field(default_factory=dict)
    method: str = "GET"
    body_bytes: int | None = None
    text: bytes | None = None
    nginx_status: int | None = None
    takes_any_body: bool = True


ROWS: Final[dict[str, Row]] = {}


def row(
    seen: int | str, event: str | None = None, says: str = "", **more: Any
) -> Callable[[Any], Any]:
    """Put an application into the table."""

    def register(app: Any) -> Any:
        fields = more.pop("fields", {})
        if event in {FAILED, BROKE_A_RULE}:
            fields = {"level": "error", "outcome": OUTCOMES[seen], **fields}
        ROWS[app.__name__.strip("_").replace("_", "-")] = Row(
            app, seen, event, says, fields, **more
        )
        return app

    return register


class Closing:
    """An iterable that counts how often it is closed."""

    def __init__(self, chunks: Iterable[Any]) -> None:
        self._chunks = chunks
        self.closed = 0
        made.append(self)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._chunks)

    def close(self) -> None:
        self.closed += 1
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()


made: list[Closing] = []


def application(environ: Environ, start_response: StartResponse) -> Any:
    name = environ["PATH_INFO"].split("/")[1]
    if name == "settled":
        return settled(environ, start_response)
    return ROWS[name].app(environ, start_response)


def settled(environ: Environ, start_response: StartResponse) -> list[bytes]:
    """Tell how often the iterables since the last time were closed, and mark this place in the log."""
    environ["wsgi.errors"].write(environ["PATH_INFO"] + "\n")
    start_response("200 OK", [("Content-Type", "application/json")])
    counts, made[:] = [one.closed for one in made], []
    return [json.dumps(counts).encode()]


def first_half_then(fail: Callable[[], object]) -> Iterator[bytes]:
    yield b"the first half"
    fail()


def throw(error: BaseException) -> Callable[[], object]:
    def fail() -> None:
        raise error

    return fail


# --- It raises ------------------------------------------------------------------------------------


@row(500, FAILED, "ValueError: too early")
def raises_before_the_head(environ, start_response):
    raise ValueError("too early")


@row(500, FAILED, "ValueError: before the body")
def raises_after_start_response(environ, start_response):
    start_response("200 OK", TEXT)
    raise ValueError("before the body")


@row(500, FAILED, "ValueError: in the generator")
def raises_in_the_first_step(environ, start_response):
    def generate() -> Iterator[bytes]:
        if environ:
            raise ValueError("in the generator")
        yield b""

    start_response("200 OK", TEXT)
    return Closing(generate())


@row(500, FAILED, "ValueError: after nothing")
def raises_after_empty_pieces(environ, start_response):
    def generate() -> Iterator[bytes]:
        yield b""
        yield b""
        raise ValueError("after nothing")

    start_response("200 OK", TEXT)
    return Closing(generate())


@row(BROKEN, FAILED, "ValueError: half-way")
def raises_midway(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing(first_half_then(throw(ValueError("half-way"))))


@row(BROKEN, FAILED, "ValueError: half-way")
def raises_midway_under_a_length(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "28")])
    return Closing(first_half_then(throw(ValueError("half-way"))))


@row(BROKEN, FAILED, "ValueError: half-way", takes_any_body=False)
def raises_after_three_megabytes(environ, start_response):
    def generate() -> Iterator[bytes]:
        for _ in range(30):
            yield bytes(100_000)
        raise ValueError("half-way")

    start_response("200 OK", TEXT)
    return Closing(generate())


@row(BROKEN, FAILED, "ValueError: half-way", method="POST", body_bytes=1000)
def raises_midway_with_its_body_read(environ, start_response):
    environ["wsgi.input"].read()
    start_response("200 OK", TEXT)
    return Closing(first_half_then(throw(ValueError("half-way"))))


@row(200, FAILED, "ValueError: after all", fields={"outcome": "the answer was complete"})
def raises_after_its_whole_length(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "14")])
    return Closing(first_half_then(throw(ValueError("after all"))))


@row(500, FAILED, "ValueError: unread", method="POST", body_bytes=300_000)
def raises_with_its_body_unread(environ, start_response):
    raise ValueError("unread")


@row(500, FAILED, "ValueError: half read", method="POST", body_bytes=300_000)
def raises_with_its_body_half_read(environ, start_response):
    environ["wsgi.input"].read(150_000)
    raise ValueError("half read")


@row(500, FAILED, "ValueError: no iterator")
def raises_in_iter(environ, start_response):
    class NoIterator(Closing):
        def __iter__(self) -> Iterator[Any]:
            raise ValueError("no iterator")

    start_response("200 OK", TEXT)
    return NoIterator([])


@row(BROKEN, FAILED, "ValueError: after write")
def raises_after_write(environ, start_response):
    start_response("200 OK", TEXT)(b"the first half")
    raise ValueError("after write")


@row(500, FAILED, "RuntimeError: generator raised StopIteration")
def raises_stop_iteration_in_a_generator(environ, start_response):
    def generate() -> Iterator[bytes]:
        yield b""
        yield next(iter([]))

    start_response("200 OK", TEXT)
    return Closing(generate())


@row(500, FAILED, "StopIteration")
def raises_stop_iteration(environ, start_response):
    raise StopIteration


@row(500, FAILED, "SystemExit: 1")
def exits(environ, start_response):
    sys.exit(1)


@row(BROKEN, FAILED, "SystemExit")
def exits_midway(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing(first_half_then(sys.exit))


@row(500, FAILED, "KeyboardInterrupt")
def raises_keyboard_interrupt(environ, start_response):
    raise KeyboardInterrupt


@row(BROKEN, FAILED, "KeyboardInterrupt")
def raises_keyboard_interrupt_midway(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing(first_half_then(throw(KeyboardInterrupt())))


@row(500, FAILED, "GeneratorExit")
def raises_generator_exit(environ, start_response):
    raise GeneratorExit


@row(500, FAILED, "CancelledError")
def raises_cancelled_error(environ, start_response):
    raise asyncio.CancelledError


@row(500, FAILED, "RecursionError")
def recurses(environ, start_response):
    return recurses(environ, start_response)


@row(500, FAILED, "MemoryError")
def runs_out_of_memory(environ, start_response):
    raise MemoryError


@row(500, FAILED, "ExceptionGroup: several")
def raises_a_group(environ, start_response):
    raise BaseExceptionGroup("several", [ValueError(), KeyboardInterrupt()])


@row(500, FAILED, "Unprintable")
def raises_what_can_not_be_printed(environ, start_response):
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise ValueError

    raise Unprintable


@row(500, FAILED, "Unprintable")
def raises_what_exits_as_it_is_printed(environ, start_response):
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise SystemExit

    raise Unprintable


@row(500, FAILED, "ValueError: \udcff")
def raises_with_a_lone_surrogate(environ, start_response):
    raise ValueError("\udcff")


@row(500, FAILED, 'ValueError: one\n{"event": "forged"}')
def raises_with_a_line_break(environ, start_response):
    raise ValueError('one\n{"event": "forged"}')


@row(500, FAILED, "ConnectionResetError: of its database")
def raises_connection_reset_of_its_own(environ, start_response):
    raise ConnectionResetError("of its database")


@row(BROKEN, FAILED, "BrokenPipeError: of its database")
def raises_broken_pipe_of_its_own_midway(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing(first_half_then(throw(BrokenPipeError("of its database"))))


@row(500, FAILED, "TimeoutError: of its database")
def raises_timeout_of_its_own(environ, start_response):
    raise TimeoutError("of its database")


@row(500, FAILED, "BlockingIOError: of its pipe")
def raises_blocking_io_error_of_its_own(environ, start_response):
    raise BlockingIOError("of its pipe")


@row(500, FAILED, "TypeError")
def takes_no_arguments(environ, start_response):
    def app() -> list[bytes]:
        return [b"no arguments"]

    return app(environ, start_response)  # type: ignore[call-arg] # the row


@row(500, FAILED, "ValueError: of its own")
def raises_with_the_environ_emptied(environ, start_response):
    environ.clear()
    raise ValueError("of its own")


@row(500, FAILED, "ValueError: of its own")
def raises_with_the_environ_spoilt(environ, start_response):
    environ.update(REQUEST_METHOD=None, PATH_INFO="/\N{EURO SIGN}", SCRIPT_NAME=5)
    raise ValueError("of its own")


# --- It returns what is no iterable of bytes ------------------------------------------------------


@row(500, BROKE_A_RULE, "returned None")
def returns_none(environ, start_response):
    start_response("200 OK", TEXT)


@row(BROKEN, BROKE_A_RULE, "returned None")
def returns_none_after_write(environ, start_response):
    start_response("200 OK", TEXT)(b"written")


@row(500, BROKE_A_RULE, "not an iterable of bytes")
def returns_str(environ, start_response):
    start_response("200 OK", TEXT)
    return "text"


@row(500, FAILED, "TypeError")
def returns_an_integer(environ, start_response):
    start_response("200 OK", TEXT)
    return 5


@row(500, FAILED, "TypeError")
def returns_a_generator_function(environ, start_response):
    def generate() -> Iterator[bytes]:
        yield b"never called"

    start_response("200 OK", TEXT)
    return generate


@row(500, BROKE_A_RULE, "of type str, not bytes")
def returns_a_dict(environ, start_response):
    start_response("200 OK", TEXT)
    return {"detail": "this is no web framework"}


@row(500, BROKE_A_RULE, "of type int, not bytes")
def returns_a_bytearray(environ, start_response):
    start_response("200 OK", TEXT)
    return bytearray(b"by the letter integers")


@row(500, BROKE_A_RULE, "of type int, not bytes")
def returns_an_array(environ, start_response):
    start_response("200 OK", TEXT)
    return array("B", b"by the letter integers")


@row(500, BROKE_A_RULE, "of type str, not bytes")
def has_a_str_alone(environ, start_response):
    start_response("200 OK", TEXT)
    return ["text"]


@row(500, BROKE_A_RULE, "of type bytearray, not bytes")
def has_a_bytearray_alone(environ, start_response):
    start_response("200 OK", TEXT)
    return [bytearray(b"text")]


@row(500, BROKE_A_RULE, "of type memoryview, not bytes")
def has_a_memoryview(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing([memoryview(b"text")])


@row(500, BROKE_A_RULE, "of type list, not bytes")
def has_a_list_in_a_list(environ, start_response):
    start_response("200 OK", TEXT)
    return [[b"text"]]


@row(500, BROKE_A_RULE, "of type str, not bytes")
def has_a_str_first(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing(["text", b"bytes"])


@row(BROKEN, BROKE_A_RULE, "of type str, not bytes")
def has_a_str_second(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing([b"bytes", "text"])


@row(200, text=b"bytes")
def has_none_second(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing([b"bytes", None])


@row(200, text=b"")
def has_none_alone(environ, start_response):
    start_response("200 OK", TEXT)
    return [None]


@row(500, BROKE_A_RULE, "of type NoneType, not bytes")
def writes_none(environ, start_response):
    start_response("200 OK", TEXT)(None)
    return Closing([])


@row(BROKEN, FAILED, "generator ignored GeneratorExit")
def refuses_to_be_closed(environ, start_response):
    def generate() -> Iterator[Any]:
        try:
            yield b"bytes"
            yield "text"
        finally:
            yield b"more"

    start_response("200 OK", TEXT)
    return Closing(generate())


@row(200, text=b"both of them")
def has_a_length_of_one_and_two_pieces(environ, start_response):
    class Short(Closing):
        def __len__(self) -> int:
            return 1

    start_response("200 OK", TEXT)
    return Short([b"both ", b"of them"])


@row(200, text=b"ten bytes!")
def has_bytes_that_lie_about_their_length(environ, start_response):
    class Lying(bytes):
        def __len__(self) -> int:
            return 1000

    start_response("200 OK", TEXT)
    return [Lying(b"ten bytes!")]


# --- The head -------------------------------------------------------------------------------------


@row(500, BROKE_A_RULE, "the body began before the head: first call start_response ")
def never_starts(environ, start_response):
    return Closing([b"no head"])


@row(500, BROKE_A_RULE, "the body began before the head: first call start_response ")
def never_starts_and_is_a_list(environ, start_response):
    return [b"no head"]


@row(500, BROKE_A_RULE, "the body began before the head: first call start_response ")
def never_starts_and_is_empty(environ, start_response):
    return Closing([])


@row(200, text=b"late, and still in time")
def starts_in_its_generator(environ, start_response):
    yield b""
    start_response("200 OK", TEXT)
    yield b"late, and still in time"


@row(500, BROKE_A_RULE, "the body began before the head: first call start_response ")
def starts_after_the_first_piece(environ, start_response):
    yield b"early"
    start_response("200 OK", TEXT)


@row(500, BROKE_A_RULE, "start_response was called twice without exc_info")
def starts_twice(environ, start_response):
    start_response("200 OK", TEXT)
    start_response("404 Not Found", TEXT)
    return Closing([b"which one?"])


@row(503, text=b"an answer of its own")
def starts_again_with_an_error(environ, start_response):
    start_response("200 OK", [*TEXT, ("X-First", "forgotten")])
    try:
        raise ValueError
    except ValueError:
        start_response("503 Its Own", TEXT, sys.exc_info())
    return Closing([b"an answer of its own"])


@row(503, text=b"an answer of its own")
def starts_again_with_an_error_by_keyword(environ, start_response):
    start_response("200 OK", TEXT)
    try:
        raise ValueError
    except ValueError:
        start_response("503 Its Own", TEXT, exc_info=sys.exc_info())
    return Closing([b"an answer of its own"])


@row(BROKEN, FAILED, "ValueError: too late")
def starts_again_with_an_error_too_late(environ, start_response):
    def generate() -> Iterator[bytes]:
        yield b"it has left"
        try:
            raise ValueError("too late")
        except ValueError:
            start_response("503 Its Own", TEXT, sys.exc_info())
        yield b"never"

    start_response("200 OK", TEXT)
    return Closing(generate())


@row(500, FAILED, "TypeError")
def starts_by_keywords(environ, start_response):
    start_response(status="200 OK", headers=TEXT)
    return [b"PEP 3333 wants positions"]


@row(500, BROKE_A_RULE, "'OK' is not of the form")
def status_without_a_code(environ, start_response):
    start_response("OK", TEXT)
    return Closing([b""])


@row(500, BROKE_A_RULE, "must be a str")
def status_is_an_integer(environ, start_response):
    start_response(200, TEXT)
    return Closing([b""])


@row(500, BROKE_A_RULE, "must be a str")
def status_is_bytes(environ, start_response):
    start_response(b"200 OK", TEXT)
    return Closing([b""])


@row(500, BROKE_A_RULE, "is not of the form")
def status_has_four_digits(environ, start_response):
    start_response("2000 OK", TEXT)
    return Closing([b""])


@row(500, BROKE_A_RULE, "interim")
def status_is_interim(environ, start_response):
    start_response("103 Early Hints", TEXT)
    return Closing([b""])


@row(500, BROKE_A_RULE, "is not of the form")
def status_with_a_line_break(environ, start_response):
    start_response("200 OK\r\nX-Injected: yes", TEXT)
    return Closing([b""])


@row(500, BROKE_A_RULE, "latin-1")
def status_beyond_latin_1(environ, start_response):
    start_response("200 \N{EURO SIGN}", TEXT)
    return Closing([b""])


@row(500, BROKE_A_RULE, "CR, LF or NUL")
def header_value_with_crlf(environ, start_response):
    start_response("200 OK", [("X-A", "b\r\nX-Injected: yes")])
    return Closing([b""])


@row(500, BROKE_A_RULE, "CR, LF or NUL")
def header_value_with_lf(environ, start_response):
    start_response("200 OK", [("X-A", "b\nX-Injected: yes")])
    return Closing([b""])


@row(500, BROKE_A_RULE, "CR, LF or NUL")
def header_value_with_cr(environ, start_response):
    start_response("200 OK", [("X-A", "b\rX-Injected: yes")])
    return Closing([b""])


@row(500, BROKE_A_RULE, "CR, LF or NUL")
def header_value_with_nul(environ, start_response):
    start_response("200 OK", [("X-A", "b\0")])
    return Closing([b""])


@row(500, BROKE_A_RULE, "another control character")
def header_value_with_a_control_character(environ, start_response):
    start_response("200 OK", [("X-A", "b\x01")])
    return Closing([b""])


@row(500, BROKE_A_RULE, "another control character")
def header_value_with_the_last_control_character(environ, start_response):
    start_response("200 OK", [("X-A", "b\x7f")])
    return Closing([b""])


@row(500, BROKE_A_RULE, "is not a header name")
def header_name_with_a_colon(environ, start_response):
    start_response("200 OK", [("X-Injected: yes", "b")])
    return Closing([b""])


@row(500, BROKE_A_RULE, "is not a header name")
def header_name_with_a_line_break(environ, start_response):
    start_response("200 OK", [("X-A\r\nX-Injected", "b")])
    return Closing([b""])


@row(500, BROKE_A_RULE, "is not a header name")
def header_name_is_empty(environ, start_response):
    start_response("200 OK", [("", "b")])
    return Closing([b""])


@row(500, BROKE_A_RULE, "a pair of str")
def header_value_is_bytes(environ, start_response):
    start_response("200 OK", [("X-A", b"b")])
    return Closing([b""])


@row(500, BROKE_A_RULE, "a pair of str")
def header_value_is_an_integer(environ, start_response):
    start_response("200 OK", [("Content-Length", 0)])
    return Closing([b""])


@row(500, BROKE_A_RULE, "a pair of str")
def header_value_is_none(environ, start_response):
    start_response("200 OK", [("Location", None)])
    return Closing([b""])


@row(500, BROKE_A_RULE, "a pair of str")
def header_of_three(environ, start_response):
    start_response("200 OK", [("X-A", "b", "c")])
    return Closing([b""])


@row(500, BROKE_A_RULE, "latin-1")
def header_beyond_latin_1(environ, start_response):
    start_response("200 OK", [("X-A", "\N{EURO SIGN}")])
    return Closing([b""])


@row(500, BROKE_A_RULE, "not a list")
def headers_are_a_dict(environ, start_response):
    # With such short names each of them would pass for a pair of letters.
    start_response("200 OK", {"TE": "x"})
    return Closing([b""])


@row(500, BROKE_A_RULE, "not a list")
def headers_are_a_generator(environ, start_response):
    start_response("200 OK", (pair for pair in TEXT))
    return Closing([b""])


@row(500, BROKE_A_RULE, "not a list")
def headers_are_none(environ, start_response):
    start_response("200 OK", None)
    return Closing([b""])


@row(500, BROKE_A_RULE, "two Content-Length headers")
def has_two_lengths(environ, start_response):
    start_response("200 OK", [("Content-Length", "1"), ("content-length", "2")])
    return Closing([b"x"])


@row(200, text=b"x")
def has_a_length_with_space_around_it(environ, start_response):
    start_response("200 OK", [("Content-Length", " 1\t")])
    return Closing([b"x"])


@row(500, BROKE_A_RULE, "not a decimal number")
def has_a_negative_length(environ, start_response):
    start_response("200 OK", [("Content-Length", "-1")])
    return Closing([b"x"])


@row(
    200,
    HEAD_TOO_LARGE,
    nginx_status=502,
    fields={"level": "warning", "largest_header": "X-Large", "largest_header_bytes": 40_009},
)
def has_a_head_larger_than_nginxs_buffer(environ, start_response):
    start_response("200 OK", [*TEXT, ("X-Large", "x" * 40_000)])
    return [b"small"]


@row(
    200,
    HEAD_TOO_LARGE,
    nginx_status=502,
    fields={"level": "warning", "largest_header": "X-Large", "largest_header_bytes": 40_009},
)
def goes_on_after_a_head_larger_than_nginxs_buffer(environ, start_response):
    start_response("200 OK", [*TEXT, ("X-Large", "x" * 40_000)])
    for _ in range(40):
        # Until Nginx is gone; and no more than a socket takes of a client that sends its body first.
        yield bytes(1000)
        time.sleep(0.005)


@row(200, text=b"chunk marks are Nginx's affair")
def sends_transfer_encoding(environ, start_response):
    start_response("200 OK", [("Transfer-Encoding", "chunked"), ("Connection", "keep-alive")])
    return Closing([b"chunk marks are ", b"Nginx's affair"])


# --- The body and its length ----------------------------------------------------------------------


@row(BROKEN, BROKE_A_RULE, "3 bytes, its Content-Length is 10")
def body_too_short(environ, start_response):
    start_response("200 OK", [("Content-Length", "10")])
    return Closing([b"1", b"23"])


@row(500, BROKE_A_RULE, "3 bytes, its Content-Length is 10")
def whole_body_too_short(environ, start_response):
    start_response("200 OK", [("Content-Length", "10")])
    return [b"123"]


@row(500, BROKE_A_RULE, "0 bytes, its Content-Length is 10")
def body_missing(environ, start_response):
    start_response("200 OK", [("Content-Length", "10")])
    return Closing([])


@row(200, CUT, text=b"12", fields={"level": "warning", "excess_bytes": 4})
def body_too_long(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return Closing([b"1", b"23", b"456"])


@row(200, CUT, text=b"12", fields={"level": "warning", "excess_bytes": 4})
def whole_body_too_long(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"123456"]


@row(200, CUT, text=b"", fields={"level": "warning", "excess_bytes": 6})
def body_under_a_length_of_zero(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return [b"123456"]


@row(204, text=b"")
def body_of_no_content(environ, start_response):
    start_response("204 No Content", TEXT)
    return Closing([b"all ", b"the same"])


@row(304, text=b"")
def body_of_not_modified(environ, start_response):
    start_response("304 Not Modified", [("ETag", '"1"')])
    return Closing([b"all ", b"the same"])


@row(200, text=b"", method="HEAD")
def body_of_an_answer_to_head(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing([b"all ", b"the same"])


@row(200, text=b"")
def yields_only_empty_pieces(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing([b""] * 1000)


@row(500, BROKE_A_RULE, "of type str, not bytes")
def writes_text(environ, start_response):
    start_response("200 OK", TEXT)("text")
    return Closing([])


@row(200, BROKE_A_RULE, "already complete", text=b"all of it")
def writes_in_close(environ, start_response):
    write = start_response("200 OK", TEXT)

    class Writes(Closing):
        def close(self) -> None:
            super().close()
            write(b"more")

    return Writes([b"all ", b"of it"])


@row(200, text=b"all of it")
def writes_from_a_thread_of_its_own_afterwards(environ, start_response):
    write = start_response("200 OK", TEXT)
    closed = threading.Event()
    seen: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def write_late() -> None:
        closed.wait()
        try:
            write(b"HTTP/1.1 200 OK\r\n\r\nfor another client")
        except BaseException as error:
            seen.put(error)
        else:
            seen.put(None)

    thread = threading.Thread(target=write_late)
    thread.start()

    class Waits(Closing):
        def close(self) -> None:
            super().close()
            closed.set()
            thread.join()
            if seen.get() is None:
                raise AssertionError("it could write")

    return Waits([b"all of it"])


# --- close() --------------------------------------------------------------------------------------


@row(200, FAILED, "ValueError: close failed", text=b"all sent")
def raises_in_close(environ, start_response):
    class Raises(Closing):
        def close(self) -> None:
            super().close()
            raise ValueError("close failed")

    start_response("200 OK", TEXT)
    return Raises([b"all ", b"sent"])


@row(BROKEN, FAILED, "ValueError: close failed")
def raises_and_raises_again_in_close(environ, start_response):
    class Raises(Closing):
        def close(self) -> None:
            super().close()
            raise ValueError("close failed")

    start_response("200 OK", TEXT)
    return Raises(first_half_then(throw(ValueError("half-way"))))


@row(500, FAILED, "TypeError")
def raises_in_iter_and_again_in_close(environ, start_response):
    class Raises(Closing):
        def close(self) -> None:
            super().close()
            raise ValueError("close failed")

    start_response("200 OK", TEXT)
    return Raises(5)  # type: ignore[arg-type] # the row


@row(200, FAILED, "SystemExit: 3", text=b"all sent")
def exits_in_close(environ, start_response):
    class Exits(Closing):
        def close(self) -> None:
            super().close()
            sys.exit(3)

    start_response("200 OK", TEXT)
    return Exits([b"all ", b"sent"])


@row(200, FAILED, "'int' object is not callable", text=b"all sent")
def close_is_no_function(environ, start_response):
    iterable = Closing([b"all ", b"sent"])
    iterable.__dict__["close"] = 5
    iterable.closed = 1  # as far as that is possible
    start_response("200 OK", TEXT)
    return iterable


@row(200, FAILED, "ValueError: no close", text=b"all sent")
def close_can_not_be_looked_up(environ, start_response):
    class Hidden:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"all ", b"sent"])

        def __getattr__(self, name: str) -> object:
            raise ValueError(f"no {name}")

    start_response("200 OK", TEXT)
    return Hidden()


# --- It raises what can hardly be shown -----------------------------------------------------------


@row(500, FAILED, "ValueError: ")
def raises_a_long_chain_of_contexts(environ, start_response):
    """As a retry does within the handler of what it retries after."""
    error = ValueError(0)
    for number in range(1, 1200):
        following = ValueError(number)
        following.__context__ = error
        error = following
    raise error


@row(500, FAILED, "ValueError: ")
def raises_a_long_chain_of_causes(environ, start_response):
    error = ValueError(0)
    for number in range(1, 1200):
        following = ValueError(number)
        following.__cause__ = error
        error = following
    raise error


@row(500, FAILED, "StrFailsError")
def raises_what_has_no_text(environ, start_response):
    class StrFailsError(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    raise StrFailsError


@row(500, FAILED, "CauseFailsError")
def raises_what_has_no_cause(environ, start_response):
    class CauseFailsError(Exception):
        @property
        def __cause__(self) -> BaseException:  # type: ignore[override] # the case
            raise ValueError("no cause")

    raise CauseFailsError


@row(500, FAILED, "AttributesFailError")
def raises_what_has_no_attributes(environ, start_response):
    class AttributesFailError(Exception):
        def __getattribute__(self, name: str) -> Any:
            raise ValueError(f"no {name}")

    raise AttributesFailError


@row(500, FAILED)
def raises_what_has_no_name(environ, start_response):
    class Nameless(type):
        @property
        def __name__(cls) -> str:  # type: ignore[override] # the case
            raise ValueError("no name")

    class NamelessError(Exception, metaclass=Nameless):
        pass

    raise NamelessError


@row(500, FAILED, "TimeoutError")
def is_interrupted_from_outside(environ, start_response):
    """As libraries do that end what takes too long in other threads."""
    ident = ctypes.c_ulong(threading.get_ident())
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(TimeoutError))
    threading.Event().wait(10)
    start_response("200 OK", TEXT)
    return [b"never"]


# --- What it was given ----------------------------------------------------------------------------


@row(200, text=b"closed", method="POST", body_bytes=300_000)
def closes_its_input(environ, start_response):
    environ["wsgi.input"].close()
    start_response("200 OK", TEXT)
    return Closing([b"closed"])


@row(500, FAILED, "ValueError: ", method="POST", body_bytes=300_000)
def reads_its_closed_input(environ, start_response):
    environ["wsgi.input"].close()
    return [environ["wsgi.input"].read(1)]


@row(200, text=b"300000", method="POST", body_bytes=300_000)
def reads_far_beyond_the_end(environ, start_response):
    start_response("200 OK", TEXT)
    return [str(len(environ["wsgi.input"].read(10**12))).encode()]


@row(200, text=b"[0, 0, 0]", takes_any_body=False)
def reads_where_there_is_no_body(environ, start_response):
    start_response("200 OK", TEXT)
    found = [environ["wsgi.input"].read(size) for size in (-1, 10, 10**12)]
    return [str([len(one) for one in found]).encode()]


@row(500, FAILED, "write")
def writes_bytes_to_wsgi_errors(environ, start_response):
    environ["wsgi.errors"].write(b"bytes")
    start_response("200 OK", TEXT)
    return [b"never"]


@row(500, FAILED, "close")
def closes_wsgi_errors(environ, start_response):
    environ["wsgi.errors"].close()
    start_response("200 OK", TEXT)
    return [b"never"]


@row(500, FAILED)
def wraps_no_file(environ, start_response):
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](None)


@row(500, FAILED, "ValueError: ")
def wraps_a_closed_file(environ, start_response):
    with open(__file__, "rb") as file:  # noqa: PTH123 - what applications write
        wrapped = environ["wsgi.file_wrapper"](file)
    start_response("200 OK", TEXT)
    return wrapped


@row(500, BROKE_A_RULE, "of type str, not bytes")
def wraps_a_text_file(environ, start_response):
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](open(__file__))  # noqa: PTH123 - closed by the bridge
