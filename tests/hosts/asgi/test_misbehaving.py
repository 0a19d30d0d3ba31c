"""ASGI applications that misbehave, on each loop: what is answered, logged and counted.

What Nginx makes of such applications is in integration/asgi/test_behaviours.py.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from tests.asgi_messages import START, Receive, Send, body, start
from tests.bridge import on_each_loop, on_each_socket, running


@dataclass(frozen=True)
class Case:
    """An application that misbehaves.

    Attributes:
        app: the application.
        seen: the status that the client gets, or ``broken``.
        event: what is logged about it, or None.
        says: part of that event.
    """

    app: Callable[[Any, Receive, Send], Awaitable[Any]]
    seen: int | str
    event: str | None
    says: str


CASES: list[Any] = []

FAILED = "application failed"
BROKE_A_RULE = "application broke a rule"
CUT = "body was longer than its Content-Length: the rest was cut off"

OUTCOMES = {500: "answered 500", "broken": "connection broken", 200: "the answer was complete"}


def case(seen: int | str, event: str | None, says: str = "") -> Callable[[Any], Any]:
    def register(app: Any) -> Any:
        name = app.__name__.strip("_").replace("_", "-")
        CASES.append(pytest.param(Case(app, seen, event, says), id=name))
        return app

    return register


@case(500, FAILED, "ValueError: too early")
async def raises_before_start(scope, receive, send):
    raise ValueError("too early")


@case(500, FAILED, "ValueError")
async def raises_after_start(scope, receive, send):
    await send(START)
    raise ValueError


@case("broken", FAILED, "ValueError: half-way")
async def raises_midway(scope, receive, send):
    await send(START)
    await send(body(b"the first half", more=True))
    raise ValueError("half-way")


@case("broken", FAILED, "ValueError: half-way")
async def raises_midway_with_a_length(scope, receive, send):
    await send(start(200, (b"Content-Length", b"28")))
    await send(body(b"the first half", more=True))
    raise ValueError("half-way")


@case("broken", FAILED, "ValueError")
async def raises_after_an_empty_piece(scope, receive, send):
    await send(START)
    await send(body(b"", more=True))
    raise ValueError


@case(200, FAILED, "ValueError: in the background")
async def raises_after_the_answer(scope, receive, send):
    await send(START)
    await send(body(b"all sent"))
    raise ValueError("in the background")


@case(500, BROKE_A_RULE, "returned without sending a response")
async def returns_at_once(scope, receive, send):
    pass


@case(500, BROKE_A_RULE, "returned before its response was complete")
async def returns_after_start(scope, receive, send):
    await send(START)


@case("broken", BROKE_A_RULE, "returned before its response was complete")
async def returns_midway(scope, receive, send):
    await send(START)
    await send(body(b"the first half", more=True))


@case(500, BROKE_A_RULE, "the body began before the head")
async def sends_the_body_first(scope, receive, send):
    await send(body(b"no head"))


@case(200, None)
async def sends_the_body_first_and_repents(scope, receive, send):
    with suppress(RuntimeError):
        await send(body(b"no head"))
    await send(START)
    await send(body(b"an answer"))


@case(500, BROKE_A_RULE, "'http.response.oops' is not a message")
async def sends_an_unknown_message(scope, receive, send):
    await send({"type": "http.response.oops"})


@case(500, BROKE_A_RULE, "'websocket.accept' is not a message")
async def takes_it_for_a_websocket(scope, receive, send):
    await send({"type": "websocket.accept"})


@case(500, BROKE_A_RULE, "a message has a 'type' that is a str; this one has ['status']")
async def sends_a_message_without_a_type(scope, receive, send):
    await send({"status": 200})


@case(500, BROKE_A_RULE, "a message is a dict, not None")
async def sends_no_message(scope, receive, send):
    await send(None)


@case(500, BROKE_A_RULE, "http.response.start was sent twice")
async def starts_twice(scope, receive, send):
    await send(START)
    await send(START)


@case("broken", BROKE_A_RULE, "http.response.start was sent twice")
async def starts_twice_midway(scope, receive, send):
    await send(START)
    await send(body(b"the first half", more=True))
    await send(START)


@case(200, BROKE_A_RULE, "http.response.start was sent twice")
async def starts_again_after_the_answer(scope, receive, send):
    await send(START)
    await send(body(b"all sent"))
    await send(START)


@case(200, BROKE_A_RULE, "already complete")
async def sends_after_the_answer(scope, receive, send):
    await send(START)
    await send(body(b"all sent"))
    await send(body(b"and more"))


@case(500, BROKE_A_RULE, "http.response.start has no 'status'")
async def starts_without_a_status(scope, receive, send):
    await send({"type": "http.response.start"})


@case(500, BROKE_A_RULE, "a message has a 'type' that is a str")
async def sends_a_message_whose_type_is_bytes(scope, receive, send):
    await send({"type": b"http.response.start", "status": 200})


@case(500, BROKE_A_RULE, "a message is a dict")
async def sends_a_list(scope, receive, send):
    await send(["http.response.start", 200])


@case(500, BROKE_A_RULE, "http.response.pathsend has no 'path'")
async def sends_a_file_without_a_path(scope, receive, send):
    await send(START)
    await send({"type": "http.response.pathsend"})


@case(500, BROKE_A_RULE, "the 'path' of http.response.pathsend is of type int")
async def sends_a_file_by_number(scope, receive, send):
    await send(START)
    await send({"type": "http.response.pathsend", "path": 0})


@case(500, BROKE_A_RULE, "http.response.zerocopysend has no 'file'")
async def sends_no_file(scope, receive, send):
    await send(START)
    await send({"type": "http.response.zerocopysend"})


@case(500, BROKE_A_RULE, "the 'file' of http.response.zerocopysend is of type str")
async def sends_the_name_of_a_file(scope, receive, send):
    await send(START)
    await send({"type": "http.response.zerocopysend", "file": __file__})


@case(500, BROKE_A_RULE, "the 'count' of http.response.zerocopysend is of type str")
async def sends_so_many_bytes_in_words(scope, receive, send):
    await send(START)
    await send({"type": "http.response.zerocopysend", "file": 0, "count": "all"})


@case(500, BROKE_A_RULE, "http.response.early_hint has no 'links'")
async def hints_nothing(scope, receive, send):
    await send({"type": "http.response.early_hint"})


@case(500, BROKE_A_RULE, "the 'links' of http.response.early_hint is of type bytes")
async def hints_bytes(scope, receive, send):
    await send({"type": "http.response.early_hint", "links": b"</style.css>"})


@case(200, FAILED, "ValueError: behind the end")
async def raises_behind_all_of_its_length(scope, receive, send):
    await send(start(200, (b"content-length", b"4")))
    await send(body(b"done", more=True))
    raise ValueError("behind the end")


@case(200, None)
async def starts_without_headers(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body"})


@case(500, BROKE_A_RULE, "the status must be an integer")
async def status_is_text(scope, receive, send):
    await send(start("200"))
    await send(body())


@case(500, BROKE_A_RULE, "the status must be an integer")
async def status_is_no_number(scope, receive, send):
    await send(start("OK"))
    await send(body())


@case(500, BROKE_A_RULE, "the status must be an integer")
async def status_is_none(scope, receive, send):
    await send(start(None))
    await send(body())


@case(500, BROKE_A_RULE, "the status must be an integer")
async def status_is_too_large(scope, receive, send):
    await send(start(1000))
    await send(body())


@case(500, BROKE_A_RULE, "interim")
async def status_is_interim(scope, receive, send):
    await send(start(103, (b"Link", b"</style.css>; rel=preload")))
    await send(start(200))
    await send(body())


@case(500, BROKE_A_RULE, "CR, LF or NUL")
async def header_value_with_crlf(scope, receive, send):
    await send(start(200, (b"X-A", b"b\r\nX-Injected: yes")))
    await send(body())


@case(500, BROKE_A_RULE, "CR, LF or NUL")
async def header_value_with_nul(scope, receive, send):
    await send(start(200, (b"X-A", b"b\0")))
    await send(body())


@case(500, BROKE_A_RULE, "is not a header name")
async def header_name_with_a_line_break(scope, receive, send):
    await send(start(200, (b"X-A\r\nX-Injected", b"b")))
    await send(body())


@case(500, BROKE_A_RULE, "pairs of bytes")
async def header_value_is_str(scope, receive, send):
    await send(start(200, (b"X-A", "b")))
    await send(body())


@case(500, BROKE_A_RULE, "bytes")
async def header_name_is_str(scope, receive, send):
    await send(start(200, ("X-A", b"b")))
    await send(body())


@case(500, BROKE_A_RULE, "pairs of bytes")
async def header_of_three(scope, receive, send):
    await send(start(200, (b"X-A", b"b", b"c")))
    await send(body())


@case(500, BROKE_A_RULE, "pairs of bytes")
async def headers_are_none(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": None})
    await send(body())


@case(500, BROKE_A_RULE, "two Content-Length headers")
async def two_lengths(scope, receive, send):
    await send(start(200, (b"content-length", b"1"), (b"Content-Length", b"2")))
    await send(body(b"x"))


@case(500, BROKE_A_RULE, "not a decimal number")
async def length_is_no_number(scope, receive, send):
    await send(start(200, (b"content-length", b"1e3")))
    await send(body(b"x"))


@case(500, BROKE_A_RULE, "the body is of type str")
async def body_is_str(scope, receive, send):
    await send(START)
    await send(body("text"))


@case("broken", BROKE_A_RULE, "the body is of type str")
async def body_is_str_midway(scope, receive, send):
    await send(START)
    await send(body(b"bytes", more=True))
    await send(body("text"))


@case(500, BROKE_A_RULE, "the body is of type NoneType")
async def body_is_none(scope, receive, send):
    await send(START)
    await send(body(None))


@case(500, BROKE_A_RULE, "3 bytes, its Content-Length is 10")
async def whole_body_too_short(scope, receive, send):
    await send(start(200, (b"content-length", b"10")))
    await send(body(b"123"))


@case("broken", BROKE_A_RULE, "3 bytes, its Content-Length is 10")
async def body_too_short(scope, receive, send):
    await send(start(200, (b"content-length", b"10")))
    await send(body(b"1", more=True))
    await send(body(b"23"))


@case(200, CUT)
async def body_too_long(scope, receive, send):
    await send(start(200, (b"content-length", b"2")))
    await send(body(b"1", more=True))
    await send(body(b"23", more=True))
    await send(body(b"456"))


@case(200, CUT)
async def whole_body_too_long(scope, receive, send):
    await send(start(200, (b"content-length", b"2")))
    await send(body(b"123456"))


@case(200, None)
async def sends_transfer_encoding(scope, receive, send):
    await send(start(200, (b"transfer-encoding", b"chunked"), (b"connection", b"close")))
    await send(body(b"a", more=True))
    await send(body(b"b"))


@case(500, FAILED, "SystemExit: 1")
async def exits(scope, receive, send):
    sys.exit(1)


@case("broken", FAILED, "SystemExit")
async def exits_midway(scope, receive, send):
    await send(START)
    await send(body(b"the first half", more=True))
    sys.exit()


@case(500, FAILED, "KeyboardInterrupt")
async def raises_keyboard_interrupt(scope, receive, send):
    raise KeyboardInterrupt


@case(500, FAILED, "GeneratorExit")
async def raises_generator_exit(scope, receive, send):
    raise GeneratorExit


@case(500, FAILED, "RecursionError")
async def recurses(scope, receive, send):
    await recurses(scope, receive, send)


@case(500, FAILED, "BaseExceptionGroup")
async def raises_a_group(scope, receive, send):
    raise BaseExceptionGroup("several", [ValueError(), KeyboardInterrupt()])


@case("broken", FAILED, "ExceptionGroup: of the second half")
async def raises_a_group_midway(scope, receive, send):
    await send(START)
    await send(body(b"the first half", more=True))
    raise ExceptionGroup("of the second half", [ValueError()])


@case(500, FAILED, "CancelledError")
async def raises_cancelled_error_of_its_own(scope, receive, send):
    # An await of something that was cancelled, seen from here.
    raise asyncio.CancelledError


@case("broken", FAILED, "CancelledError")
async def raises_cancelled_error_midway(scope, receive, send):
    await send(START)
    await send(body(b"the first half", more=True))
    raise asyncio.CancelledError


@case(500, FAILED, "ValueError: beside it")
async def raises_a_group_with_cancelled_error(scope, receive, send):
    raise BaseExceptionGroup("several", [ValueError("beside it"), asyncio.CancelledError()])


@case(500, FAILED, "Unprintable")
async def raises_what_can_not_be_printed(scope, receive, send):
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise ValueError

    raise Unprintable


@case(500, BROKE_A_RULE, "returned without sending a response")
async def hides_what_it_broke(scope, receive, send):
    with suppress(RuntimeError):
        await send({"type": "http.response.oops"})


@case(500, FAILED, "ValueError")
async def raises_and_empties_the_scope(scope, receive, send):
    scope.clear()
    raise ValueError


BODIES = [
    pytest.param(None, id="no-body"),
    # A body that is larger than what arrives with the packet and what the kernel buffers.
    pytest.param(bytes(1_000_000), id="large-body"),
]


@on_each_loop
@on_each_socket
@pytest.mark.parametrize("request_body", BODIES)
@pytest.mark.parametrize("it", CASES)
def test_misbehaviour_is_seen_by_the_client_and_logged_once(
    it: Case, request_body: bytes | None, family: str, loop: str
):
    async def app(scope, receive, send):
        # Not the host's own call: what it raises goes through frames of an application.
        await it.app(scope, receive, send)

    with running(app, family, loop=loop, lifespan="off") as bridge:
        answer = bridge.ask("/some/path", method="POST", body=request_body)
        # The worker is still there, and knows nothing of what was.
        assert bridge.ask(method="POST", body=request_body).seen == it.seen

    assert answer.seen == it.seen
    if it.seen == 500:
        assert b"failed" in answer.body
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    told = [*bridge.events.find(level="error"), *bridge.events.find(level="warning")]
    assert [event["event"] for event in told] == [it.event] * 2 * (it.event is not None)
    for event in told:
        if it.event != CUT:
            assert it.says in event["exception"]
            assert event["outcome"] == OUTCOMES[it.seen]
    assert bridge.counters.app_errors == 2 * (it.event in {FAILED, BROKE_A_RULE})
    assert bridge.counters.client_gone == 0
