"""The table of behaviours over WebSockets: right ones, wrong ones, and what the client and the log get."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio

from integration.asgi.apps.cancellations import kept_cancellation
from integration.asgi.apps.table import (
    BROKE_A_RULE,
    DROP,
    FAILED,
    FAILED_LATE,
    TEXT,
    Receive,
    Scope,
    Send,
    accept,
    attempt,
    begin,
    close,
    say,
    signals,
    tell,
    tell_disconnect,
    websocket,
)
from integration.asgi.frames import Close
from integration.wsgi.fetching import BROKEN


class WebSocketDisconnect(Exception):
    """As frameworks have one."""


FAILED_CLOSE = Close(1011, "the application failed")
CLOSED = {"level": "error", "outcome": "closed with 1011"}
ANSWERED = {"level": "error", "outcome": "answered 500"}
NORMAL = Close(1000)


async def deny(send: Send, status: Any = 401, headers: Any = TEXT) -> None:
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})


async def deny_more(send: Send, body: bytes) -> None:
    await send({"type": "websocket.http.response.body", "body": body, "more_body": True})


async def deny_end(send: Send, body: bytes = b"") -> None:
    await send({"type": "websocket.http.response.body", "body": body})


# --- Right: messages and closing ------------------------------------------------------------------


@websocket("text \u2603", b"bytes", "", b"", NORMAL, told=("disconnect 1000",))
async def speaks_first(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    for data in ("text \u2603", b"bytes", "", b""):
        await say(send, data)
    await close(send)
    await tell_disconnect(scope, receive)


@websocket("one", b"two", NORMAL, says_first=("one", b"two"))
async def repeats(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    for _ in range(2):
        message = await receive()
        assert (message["text"] is None) != (message["bytes"] is None)
        await send({**message, "type": "websocket.send"})


@websocket("text", "bytes", NORMAL, says_first=("one", b"two"), told=("KeyError 'other'",) * 2)
async def asks_which_key_is_there(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    for present, absent, data in (("text", "bytes", "one"), ("bytes", "text", b"two")):
        message = await receive()
        assert message == {"type": "websocket.receive", present: data}
        assert absent not in message
        assert message[absent] is message.get(absent) is None
        try:
            message["other"]
        except KeyError as error:
            tell(scope, f"KeyError {error}")
        await say(send, present)


@websocket(
    Close(4001, "so it is"),
    says_first=(Close(4001, "so it is"),),
    told=("disconnect 4001 so it is",) * 2,
)
async def hears_a_code_and_a_reason(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    await tell_disconnect(scope, receive)
    await tell_disconnect(scope, receive)


@websocket(Close(None), says_first=(Close(None),), told=("disconnect 1005",))
async def hears_no_code(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    await tell_disconnect(scope, receive)


@websocket(says_first=(DROP,), told=("disconnect 1006",))
async def hears_nothing_at_all(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    await tell_disconnect(scope, receive)


@websocket(Close(4000, "enough"), told=("disconnect 4000 enough",))
async def closes_with_a_code_and_a_reason(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    await close(send, 4000, "enough")
    await tell_disconnect(scope, receive)


@websocket(Close(1001), told=("disconnect 1001",))
async def closes_with_none_as_reason(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    await close(send, 1001, None)
    await tell_disconnect(scope, receive)


@websocket(Close(1000, "x" * 123))
async def closes_with_a_long_reason(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    await close(send, 1000, "x" * 200)


@websocket(Close(1000, "\u2603" * 41))
async def closes_with_a_long_reason_beyond_ascii(
    scope: Scope, receive: Receive, send: Send
) -> None:
    """No character is cut in two."""
    await accept(receive, send)
    await close(send, 1000, "\u2603" * 42)


@websocket("before", NORMAL)
async def returns_without_closing(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    await say(send, "before")


@websocket(NORMAL, told=("one", "two", "disconnect 1000"), says_first=("one", "two", NORMAL))
async def reads_what_came_before_the_close(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    await signals.wait(scope["path"])
    for _ in range(2):
        tell(scope, (await receive())["text"])
    await tell_disconnect(scope, receive)


@websocket("\u2603" * 400_000, bytes(1_000_000), NORMAL)
async def says_much(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    await say(send, "\u2603" * 400_000)
    await say(send, bytes(1_000_000))


@websocket(b"bytearray", b"memoryview", NORMAL)
async def says_other_buffers(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    await send({"type": "websocket.send", "bytes": bytearray(b"bytearray")})
    await send({"type": "websocket.send", "bytes": memoryview(b"memoryview")})


@websocket(b"x" * 100_000, b"x" * 100_000, b"x" * 100_000, NORMAL)
async def says_much_from_several_tasks(scope: Scope, receive: Receive, send: Send) -> None:
    """Frames of one message are never among those of another."""
    await accept(receive, send)
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(say, send, b"x" * 100_000)


@websocket("beside", NORMAL, says_first=("beside",))
async def reads_and_writes_in_two_tasks(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    put, get = anyio.create_memory_object_stream[str](1)

    async def read() -> None:
        with put:
            await put.send((await receive())["text"])

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        with get:
            await say(send, await get.receive())


@websocket("again", NORMAL, says_first=("message",), told=("message",))
async def stops_waiting_for_receive(scope: Scope, receive: Receive, send: Send) -> None:
    """A wait that was given up loses no message."""
    await accept(receive, send)
    text = None
    while text is None:
        with anyio.move_on_after(0.001):
            text = (await receive())["text"]
    tell(scope, text)
    await say(send, "again")


@websocket(NORMAL, told=("went on",))
async def goes_on_after_its_close(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    await close(send)
    await signals.wait(scope["path"])
    tell(scope, "went on")


# --- Right: the handshake -------------------------------------------------------------------------


@websocket(
    NORMAL,
    headers=(("Sec-WebSocket-Protocol", "chat, superchat"),),
    has=(("Sec-WebSocket-Protocol", "superchat"),),
    told=("['chat', 'superchat']",),
)
async def chooses_a_subprotocol(scope: Scope, receive: Receive, send: Send) -> None:
    tell(scope, repr(scope["subprotocols"]))
    await accept(receive, send, subprotocol="superchat")


@websocket(NORMAL, headers=(("Sec-WebSocket-Protocol", "chat"),))
async def chooses_no_subprotocol(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send, subprotocol=None)


@websocket(NORMAL, has=(("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Latin", "caf\u00e9")))
async def accepts_with_headers(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"set-cookie", b"a=1"), (b"Set-Cookie", b"b=2"), (b"x-latin", b"caf\xe9")]
    await accept(receive, send, headers=headers)


@websocket(NORMAL, told=("disconnect 1000",))
async def accepts_before_it_receives(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})
    assert await receive() == {"type": "websocket.connect"}
    await close(send)
    await tell_disconnect(scope, receive)


@websocket(NORMAL, told=("[True, False, 0]",))
async def has_the_state_of_its_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    state = scope["state"]
    tell(scope, repr([state["started"], "mine" in state, len(state["shared"])]))
    state["mine"] = True
    await accept(receive, send)


@websocket(403, text=b"The WebSocket was refused.\n", told=("disconnect 1006",))
async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await close(send)
    await tell_disconnect(scope, receive)


@websocket(403)
async def refuses_with_a_code(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await close(send, 4003, "go away")


@websocket(
    401,
    text=b"who are you?",
    has=(("WWW-Authenticate", "Basic"), ("Content-Length", "12")),
    told=("disconnect 1006",),
)
async def denies_with_an_answer(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["extensions"]["websocket.http.response"] == {}
    await receive()
    await deny(send, 401, [(b"www-authenticate", b"Basic")])
    await deny_end(send, b"who are you?")
    await tell_disconnect(scope, receive)


@websocket(503, text=b"in pieces")
async def denies_with_a_stream(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await deny(send, 503)
    await deny_more(send, b"in ")
    await deny_more(send, b"")
    await deny_end(send, b"pieces")


@websocket(302, text=b"", has=(("Location", "/elsewhere"),))
async def denies_with_a_redirect(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await deny(send, 302, [(b"location", b"/elsewhere")])
    await deny_end(send)


@websocket(
    leaves_at="waiting",
    told=("waiting", "disconnect 1006", "OSError"),
)
async def waits_before_its_accept(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    tell(scope, "waiting")
    await tell_disconnect(scope, receive)
    await attempt(scope, send({"type": "websocket.accept"}))


# --- The client goes away -------------------------------------------------------------------------


@websocket(says_first=(DROP,), told=("disconnect 1006", "OSError", "OSError"))
async def sends_after_the_client_went(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    await tell_disconnect(scope, receive)
    await attempt(scope, say(send, "to nobody"))
    await attempt(scope, close(send))


@websocket(Close(1001), says_first=(Close(1001),), told=("disconnect 1001", "OSError", "OSError"))
async def sends_after_the_client_closed(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    await tell_disconnect(scope, receive)
    await attempt(scope, say(send, "to nobody"))
    await attempt(scope, close(send))


@websocket(says_first=(DROP,), told=("OSError",))
async def learns_it_by_sending(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    try:
        while True:
            await say(send, bytes(10_000))
    except OSError:
        tell(scope, "OSError")


@websocket(Close(1001), says_first=(Close(1001),))
async def raises_because_the_client_closed(scope: Scope, receive: Receive, send: Send) -> None:
    """What an application raises because its client left is no news."""
    await accept(receive, send)
    assert (await receive())["type"] == "websocket.disconnect"
    raise WebSocketDisconnect


@websocket(says_first=(DROP,), event=FAILED_LATE, says="ValueError: after all")
async def raises_after_the_client_went(scope: Scope, receive: Receive, send: Send) -> None:
    """A defect of the application's that shows only then is told in one line."""
    await accept(receive, send)
    assert (await receive())["type"] == "websocket.disconnect"
    raise ValueError("after all")


@websocket(Close(1001), says_first=(Close(1001),), event=FAILED_LATE, says="ValueError: after all")
async def raises_after_the_client_closed(scope: Scope, receive: Receive, send: Send) -> None:
    """Likewise."""
    await accept(receive, send)
    assert (await receive())["type"] == "websocket.disconnect"
    raise ValueError("after all")


# --- Wrong: orders of messages --------------------------------------------------------------------


@websocket(
    NORMAL,
    told=(
        "RuntimeError: 'websocket.send' is not expected while connecting",
        "RuntimeError: 'websocket.accept' is not expected while open",
        "RuntimeError: 'websocket.http.response.start' is not expected while open",
        "RuntimeError: 'http.response.start' is not expected while open",
    ),
)
async def tries_what_does_not_belong(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await attempt(scope, say(send, "early"))
    await send({"type": "websocket.accept"})
    await attempt(scope, send({"type": "websocket.accept"}))
    await attempt(scope, deny(send))
    await attempt(scope, begin(send))


@websocket(
    NORMAL,
    told=("OSError", "OSError", "RuntimeError: 'websocket.accept' is not expected while closed"),
)
async def sends_after_its_close(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    await close(send)
    await attempt(scope, say(send, "late"))
    await attempt(scope, close(send))
    await attempt(scope, send({"type": "websocket.accept"}))


@websocket(
    401,
    text=b"denied",
    told=(
        "RuntimeError: 'websocket.http.response.body' is not expected while connecting",
        "RuntimeError: 'websocket.accept' is not expected while denying",
        "RuntimeError: 'websocket.close' is not expected while denying",
        "RuntimeError: 'websocket.http.response.start' is not expected while denying",
        "RuntimeError: 'websocket.http.response.body' is not expected while closed",
    ),
)
async def mixes_denial_and_the_rest(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await attempt(scope, deny_end(send))
    await deny(send)
    await attempt(scope, send({"type": "websocket.accept"}))
    await attempt(scope, close(send))
    await attempt(scope, deny(send))
    await deny_end(send, b"denied")
    await attempt(scope, deny_end(send))


@websocket(
    500,
    event=BROKE_A_RULE,
    says="'websocket.send' is not expected while connecting",
    fields=ANSWERED,
)
async def sends_before_its_accept(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await say(send, "early")


@websocket(
    FAILED_CLOSE,
    event=BROKE_A_RULE,
    says="'websocket.accept' is not expected while open",
    fields=CLOSED,
)
async def accepts_twice(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    await send({"type": "websocket.accept"})


@websocket(
    500, event=BROKE_A_RULE, says="it returned without accepting or closing", fields=ANSWERED
)
async def returns_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    pass


@websocket(
    500, event=BROKE_A_RULE, says="it returned without accepting or closing", fields=ANSWERED
)
async def returns_after_connect(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()


@websocket(
    BROKEN,
    event=BROKE_A_RULE,
    says="it returned without accepting or closing",
    fields={"outcome": "connection broken"},
)
async def returns_amid_its_denial(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await deny(send)
    await deny_more(send, b"the first half")


@websocket(
    BROKEN,
    event=FAILED,
    says="ValueError: half-way",
    fields={"outcome": "connection broken"},
)
async def raises_amid_its_denial(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await deny(send)
    await deny_more(send, b"the first half")
    raise ValueError("half-way")


@websocket(
    BROKEN,
    event=BROKE_A_RULE,
    says="the body has 4 bytes, its Content-Length is 10",
    fields={"outcome": "connection broken"},
)
async def denies_with_too_short_a_body(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await deny(send, 401, [(b"content-length", b"10")])
    await deny_more(send, b"four")
    await deny_end(send)


@websocket(
    500, event=BROKE_A_RULE, says="it returned without accepting or closing", fields=ANSWERED
)
async def returns_after_the_start_of_its_denial(scope: Scope, receive: Receive, send: Send) -> None:
    """Nothing has been sent yet."""
    await receive()
    await deny(send)


@websocket(500, event=FAILED, says="ValueError: before its denial", fields=ANSWERED)
async def raises_after_the_start_of_its_denial(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await deny(send)
    raise ValueError("before its denial")


# --- Wrong: it raises -----------------------------------------------------------------------------


def raising(name: str, says: str, make: Callable[[], BaseException]) -> None:
    """Add an application that raises with its WebSocket open, and one that does before."""

    async def opened(scope: Scope, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        await say(send, "before")
        raise make()

    async def connecting(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise make()

    opened.__name__ = f"raises_{name}"
    websocket("before", FAILED_CLOSE, event=FAILED, says=says, fields=CLOSED)(opened)
    connecting.__name__ = f"raises_{name}_before_its_accept"
    websocket(500, event=FAILED, says=says, fields=ANSWERED)(connecting)


raising("an_error", "ValueError: of its own", lambda: ValueError("of its own"))
raising("an_os_error", "OSError: of its database", lambda: OSError("of its database"))
raising("system_exit", "SystemExit: 1", lambda: SystemExit(1))
raising("keyboard_interrupt", "KeyboardInterrupt", KeyboardInterrupt)
raising("cancelled_error", "CancelledError", asyncio.CancelledError)
raising("kept_cancellation", "Cancelled", kept_cancellation)
raising(
    "a_group",
    "ExceptionGroup: several",
    lambda: BaseExceptionGroup("several", [ValueError(), KeyboardInterrupt()]),
)


@websocket(FAILED_CLOSE, event=FAILED, says="ValueError: in a child", fields=CLOSED)
async def raises_in_a_child_task(scope: Scope, receive: Receive, send: Send) -> None:
    async def child() -> None:
        raise ValueError("in a child")

    await accept(receive, send)
    async with anyio.create_task_group() as group:
        group.start_soon(child)
        await receive()


@websocket(
    NORMAL,
    event=FAILED,
    says="ValueError: afterwards",
    fields={"level": "error", "outcome": "the WebSocket was closed"},
)
async def raises_after_its_close(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    await close(send)
    raise ValueError("afterwards")


# --- Wrong: messages ------------------------------------------------------------------------------


def sending(name: str, event: str, says: str, message: Any) -> None:
    """Add an application that sends one message with its WebSocket open."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        await send(message)

    app.__name__ = name
    websocket(FAILED_CLOSE, event=event, says=says, fields=CLOSED)(app)


NEEDS = "websocket.send needs 'bytes', or 'text' that is a str"
sending("says_nothing", BROKE_A_RULE, NEEDS, {"type": "websocket.send"})
sending("says_none", BROKE_A_RULE, NEEDS, {"type": "websocket.send", "bytes": None, "text": None})
sending("says_a_number", BROKE_A_RULE, NEEDS, {"type": "websocket.send", "text": 5})
sending("says_bytes_as_text", BROKE_A_RULE, NEEDS, {"type": "websocket.send", "text": b"bytes"})
sending(
    "says_text_as_bytes",
    BROKE_A_RULE,
    "the 'bytes' of websocket.send are a str",
    {"type": "websocket.send", "bytes": "text"},
)
sending(
    "says_a_lone_surrogate",
    FAILED,
    "UnicodeEncodeError",
    {"type": "websocket.send", "text": "\udcff"},
)
sending(
    "sends_an_unknown_message",
    BROKE_A_RULE,
    "'websocket.sent' is not expected while open",
    {"type": "websocket.sent"},
)
sending("sends_no_type", BROKE_A_RULE, "a message has a 'type' that is a str", {"text": "typeless"})
sending("sends_none", BROKE_A_RULE, "a message is a dict, not None", None)

for _code in (999, 1004, 1005, 1006, 1015, 5000):
    sending(
        f"closes_with_{_code}",
        BROKE_A_RULE,
        f"{_code} is not a code that a close frame may carry",
        {"type": "websocket.close", "code": _code},
    )
sending(
    "closes_with_a_str",
    BROKE_A_RULE,
    "'1000' is not a code that a close frame may carry",
    {"type": "websocket.close", "code": "1000"},
)


def accepting(name: str, says: str, event: str = BROKE_A_RULE, **options: object) -> None:
    """Add an application whose acceptance is not valid."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await accept(receive, send, **options)

    app.__name__ = name
    websocket(500, event=event, says=says, fields=ANSWERED)(app)


accepting(
    "chooses_what_was_not_offered",
    "the client did not offer the subprotocol 'chat'",
    subprotocol="chat",
)
accepting(
    "accepts_with_an_injected_header",
    "the value of 'x-one' holds a CR, LF or NUL",
    headers=[(b"x-one", b"1\r\nX-Injected: 1")],
)
accepting("accepts_with_an_injected_name", "is not a header name", headers=[(b"x: 1\r\nx", b"1")])
accepting("accepts_with_str_headers", "headers must be pairs of bytes", headers=[("x-one", "1")])
accepting(
    "accepts_with_a_header_of_the_handshake",
    "b'Sec-WebSocket-Accept' is the handshake's own header",
    headers=[(b"Sec-WebSocket-Accept", b"x")],
)
accepting(
    "accepts_with_the_header_of_the_subprotocol",
    "b'sec-websocket-protocol' is the handshake's own header",
    headers=[(b"sec-websocket-protocol", b"chat")],
)


def denying(name: str, says: str, status: Any = 401, headers: Any = TEXT) -> None:
    """Add an application whose denial is not valid."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await deny(send, status, headers)
        await deny_end(send)

    app.__name__ = name
    websocket(500, event=BROKE_A_RULE, says=says, fields=ANSWERED)(app)


denying("denies_with_101", "status 101 is interim", 101)
denying("denies_with_a_str", "the status must be an integer, not '401'", "401")
denying(
    "denies_with_an_injected_header",
    "the value of 'x-one' holds a CR, LF or NUL",
    headers=[(b"x-one", b"1\r\nX-Injected: 1")],
)
