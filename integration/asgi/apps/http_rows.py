"""The table of behaviours over HTTP: right ones, wrong ones, and what the client and the log get of each."""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import struct
import sys
import tempfile
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from copy import deepcopy
from http import HTTPStatus
from typing import Any

import anyio
import anyio.lowlevel

from integration.asgi.apps.cancellations import kept_cancellation
from integration.asgi.apps.table import (
    BROKE_A_RULE,
    CUT,
    FAILED,
    FAILED_LATE,
    TEXT,
    Receive,
    Scope,
    Send,
    attempt,
    begin,
    end,
    http,
    more,
    signals,
    tell,
    whole_body,
)
from integration.wsgi.fetching import BROKEN

MIB = 1024 * 1024
NO_HEAD = "the body began before the head: first call start_response (WSGI), or send http.response.start (ASGI)"
PATTERN = struct.pack(">750000I", *range(750_000))


class ClientDisconnect(Exception):
    """As frameworks have one."""


def length(count: int) -> tuple[bytes, bytes]:
    return (b"content-length", b"%d" % count)


# --- Right: the answer ----------------------------------------------------------------------------


@http(200, text=b"whole", has=(("Content-Length", "5"), ("Content-Type", "text/plain")))
async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await end(send, b"whole")


@http(200, text=b"", has=(("Content-Length", "0"),))
async def answers_with_the_fewest_keys(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body"})


@http(200, text=b"in pieces", lacks=("Content-Length",))
async def streams(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    for piece in (b"in ", b"", b"pie", b"ces"):
        await more(send, piece)
    await end(send)


@http(200, text=b"in pieces", has=(("Content-Length", "9"),))
async def streams_under_a_length(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send, headers=[*TEXT, length(9)])
    await more(send, b"in ")
    await end(send, b"pieces")


@http(200, text=PATTERN)
async def sends_three_megabytes_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await end(send, PATTERN)


@http(200, text=PATTERN)
async def sends_three_megabytes_in_small_pieces(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    for start in range(0, len(PATTERN), 10_000):
        await more(send, PATTERN[start : start + 10_000])
    await end(send)


@http(200, text=b"a bytearray, a memoryview, 1122")
async def sends_other_buffers(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await more(send, bytearray(b"a bytearray, "))
    await more(send, memoryview(b"a memoryview, "))
    await end(send, memoryview(array("H", [0x3131, 0x3232])))


@http(200, text=b"from several tasks")
async def sends_from_another_task(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    async with anyio.create_task_group() as group:
        group.start_soon(more, send, b"from ")
    async with anyio.create_task_group() as group:
        group.start_soon(end, send, b"several tasks")


@http(200, method="HEAD", text=b"", has=(("Content-Length", "1000"),))
async def answers_head_with_a_body(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send, headers=[*TEXT, length(1000)])
    await end(send, bytes(1000))


@http(200, method="HEAD", text=b"", has=(("Content-Length", "1000"),))
async def answers_head_without_a_body(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send, headers=[*TEXT, length(1000)])
    await end(send)


@http(204, text=b"", lacks=("Content-Length", "Transfer-Encoding"))
async def answers_204_with_a_body(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send, 204, [*TEXT, length(4)])
    await end(send, b"body")


@http(304, text=b"", has=(("ETag", '"1"'),))
async def answers_304_with_a_body(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send, 304, [(b"etag", b'"1"')])
    await end(send, b"body")


@http(418, text=b"short and stout")
async def answers_with_an_enum_member(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send, HTTPStatus.IM_A_TEAPOT)
    await end(send, b"short and stout")


@http(599, text=b"of its own")
async def answers_with_a_status_of_its_own(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send, 599)
    await end(send, b"of its own")


@http(
    200,
    has=(("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Latin", "caf\u00e9"), ("X-Empty", "")),
)
async def repeats_headers(scope: Scope, receive: Receive, send: Send) -> None:
    headers = ((b"Set-Cookie", b"a=1"), [b"set-cookie", b"b=2"], (b"X-LATIN", b"caf\xe9"))
    await begin(send, headers=(*headers, (b"x-empty", b"")))
    await end(send)


@http(200, has=(("X-One", "1"),), text=b"generated")
async def generates_headers(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send, headers=(pair for pair in [(b"x-one", b"1"), (b"x-two", b"2")]))
    await end(send, b"generated")


@http(200, text=b"not chunked", has=(("Content-Length", "11"),), lacks=("Keep-Alive", "Upgrade"))
async def sends_hop_by_hop_headers(scope: Scope, receive: Receive, send: Send) -> None:
    hop = [
        (b"connection", b"upgrade"),
        (b"keep-alive", b"timeout=5"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"h2c"),
        (b"te", b"trailers"),
    ]
    await begin(send, headers=[*hop, *TEXT])
    await end(send, b"not chunked")


@http(200, text=b"as if it were not there")
async def sends_keys_that_nobody_knows(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send, what="nobody knows")
    await send({"type": "http.response.body", "body": b"as if it were not there", "x": object()})


@http(200, text=b"once", told=("RuntimeError: http.response.start was sent twice",))
async def may_go_on_after_a_refusal(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await attempt(scope, begin(send, 500))
    await end(send, b"once")


@http(200, text=b"second", told=("RuntimeError: the status must be an integer, not None",))
async def may_mend_a_refused_start(scope: Scope, receive: Receive, send: Send) -> None:
    await attempt(scope, begin(send, None))
    await begin(send)
    await end(send, b"second")


@http(200, text=b"after its own")
async def cancels_a_task_of_its_own(scope: Scope, receive: Receive, send: Send) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever)
        group.cancel_scope.cancel()
    with anyio.move_on_after(0):
        await anyio.sleep_forever()
    await begin(send)
    await end(send, b"after its own")


@http(200, text=b"in time")
async def stops_waiting_for_receive(scope: Scope, receive: Receive, send: Send) -> None:
    """A wait that was given up must leave nothing behind."""
    await whole_body(receive)
    for _ in range(3):
        with anyio.move_on_after(0.001):
            await receive()
    await begin(send)
    await end(send, b"in time")


# --- Extensions -----------------------------------------------------------------------------------


@asynccontextmanager
async def a_file(content: bytes = PATTERN) -> AsyncIterator[Any]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.seek(0)
        yield file


async def path_send(send: Send, path: Any) -> None:
    await send({"type": "http.response.pathsend", "path": path})


async def zero_copy(send: Send, file: Any, **options: object) -> None:
    await send({"type": "http.response.zerocopysend", "file": file, **options})


@http(200, text=PATTERN, has=(("Content-Length", str(len(PATTERN))),))
async def sends_a_path(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["extensions"]["http.response.pathsend"] == {}
    await begin(send)
    async with a_file() as file:
        await path_send(send, file.name)


@http(200, text=PATTERN, has=(("Content-Length", str(len(PATTERN))),))
async def sends_a_path_under_its_length(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send, headers=[*TEXT, length(len(PATTERN))])
    async with a_file() as file:
        await path_send(send, file.name)


@http(200, method="HEAD", text=b"", has=(("Content-Length", str(len(PATTERN))),))
async def sends_a_path_for_head(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send, headers=[*TEXT, length(len(PATTERN))])
    async with a_file() as file:
        await path_send(send, file.name)


@http(200, text=b"", has=(("Content-Length", "0"),))
async def sends_an_empty_path(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    async with a_file(b"") as file:
        await path_send(send, file.name)


@http(200, text=b"before " + PATTERN)
async def sends_a_path_after_a_piece(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await more(send, b"before ")
    async with a_file() as file:
        await path_send(send, file.name)


@http(200, CUT, text=PATTERN[:100_000], fields={"excess_bytes": len(PATTERN) - 100_000})
async def sends_a_path_that_is_too_long(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send, headers=[*TEXT, length(100_000)])
    async with a_file() as file:
        await path_send(send, file.name)


@http(
    BROKEN,
    BROKE_A_RULE,
    f"the body has {len(PATTERN)} bytes, its Content-Length is 4000000",
    takes_any_body=False,
)
async def sends_a_path_that_is_too_short(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send, headers=[*TEXT, length(4_000_000)])
    async with a_file() as file:
        await path_send(send, file.name)


@http(500, FAILED, "FileNotFoundError")
async def sends_a_path_that_is_not_there(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await path_send(send, "/nowhere/at/all")


@http(500, FAILED, "IsADirectoryError")
async def sends_a_directory(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await path_send(send, "/")


@http(500, BROKE_A_RULE, ", or send http.response.start (ASGI)")
async def sends_a_path_without_a_start(scope: Scope, receive: Receive, send: Send) -> None:
    async with a_file() as file:
        await path_send(send, file.name)


@http(200, text=b"over", told=("RuntimeError: the response was already complete",))
async def sends_a_path_after_its_end(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await end(send, b"over")
    async with a_file() as file:
        await attempt(scope, path_send(send, file.name))


@http(200, text=PATTERN, has=(("Content-Length", str(len(PATTERN))),))
async def sends_from_a_descriptor(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["extensions"]["http.response.zerocopysend"] == {}
    await begin(send)
    async with a_file() as file:
        await zero_copy(send, file.fileno())


@http(200, text=PATTERN[1_000_000:] + b" and " + PATTERN[5:250_005] + b"." + PATTERN[:10])
async def sends_parts_of_a_file(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    async with a_file() as file:
        await zero_copy(send, file, offset=1_000_000, more_body=True)
        await more(send, b" and ")
        await zero_copy(send, file, offset=5, count=250_000, more_body=True)
        await more(send, b".")
        await zero_copy(send, file, offset=0, count=10)


@http(200, text=PATTERN[1000:])
async def sends_from_where_a_file_stands(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    async with a_file() as file:
        os.lseek(file.fileno(), 1000, os.SEEK_SET)
        await zero_copy(send, file)


@http(200, text=PATTERN)
async def sends_a_file_piece_by_piece(scope: Scope, receive: Receive, send: Send) -> None:
    """As os.sendfile does without an offset: each call goes on where the last one ended."""
    await begin(send)
    async with a_file() as file:
        await zero_copy(send, file, count=1_000_000, more_body=True)
        await zero_copy(send, file, count=10, more_body=True)
        await zero_copy(send, file)


@http(200, text=b"", has=(("Content-Length", "0"),))
async def sends_from_beyond_the_end(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    async with a_file() as file:
        await zero_copy(send, file, offset=len(PATTERN) + 5)


@http(500, FAILED, "OSError: [Errno 9] Bad file descriptor")
async def sends_from_no_file(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await zero_copy(send, 10_000_000)


@http(BROKEN, FAILED, "ValueError: after a file", takes_any_body=False)
async def raises_after_a_file(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    async with a_file() as file:
        await zero_copy(send, file, more_body=True)
    raise ValueError("after a file")


async def hint(send: Send, *links: Any) -> None:
    await send({"type": "http.response.early_hint", "links": links})


@http(
    200,
    text=b"hinted",
    has=(
        ("Link", "</own>; rel=icon"),
        ("Link", "</a.css>; rel=preload; as=style"),
        ("Link", "</b.js>; rel=preload; as=script"),
    ),
)
async def gives_early_hints(scope: Scope, receive: Receive, send: Send) -> None:
    """No interim answer passes a uwsgi frontend, so the final one has them."""
    assert scope["extensions"]["http.response.early_hint"] == {}
    await hint(send, b"</a.css>; rel=preload; as=style")
    await hint(send, b"</b.js>; rel=preload; as=script")
    await begin(send, headers=[*TEXT, (b"link", b"</own>; rel=icon")])
    await end(send, b"hinted")


@http(200, told=("RuntimeError: http.response.early_hint comes before the head",), lacks=("Link",))
async def gives_a_late_hint(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await attempt(scope, hint(send, b"</a.css>; rel=preload"))
    await end(send)


@http(500, BROKE_A_RULE, "holds a CR, LF or NUL", lacks=("X-Injected",))
async def injects_by_a_hint(scope: Scope, receive: Receive, send: Send) -> None:
    await hint(send, b"</a.css>\r\nX-Injected: 1")
    await begin(send)


# --- Right: the request ---------------------------------------------------------------------------


@http(200, text=b"True, True, 'GET'")
async def writes_its_scope_as_json(scope: Scope, receive: Receive, send: Send) -> None:
    """As those do that want to see what they get."""
    copied = deepcopy(scope)["extensions"]["uwsgi"]["vars"]
    written = json.loads(json.dumps(scope, default=bytes.decode))["extensions"]["uwsgi"]["vars"]
    variables = scope["extensions"]["uwsgi"]["vars"]
    await begin(send)
    seen = (written == variables, copied == variables, variables["REQUEST_METHOD"])
    await end(send, b"%a, %a, %a" % seen)


@http(200, method="POST", body=b"a body", text=b"a body")
async def repeats_the_body(scope: Scope, receive: Receive, send: Send) -> None:
    body = await whole_body(receive)
    await begin(send)
    await end(send, body)


@http(200, method="POST", body=PATTERN, text=b"%d, True" % len(PATTERN))
async def reads_a_large_body(scope: Scope, receive: Receive, send: Send) -> None:
    body = await whole_body(receive)
    await begin(send)
    await end(send, b"%d, %a" % (len(body), body == PATTERN))


@http(
    200, method="POST", body=b"", text=b"{'type': 'http.request', 'body': b'', 'more_body': False}"
)
async def reads_an_empty_body(scope: Scope, receive: Receive, send: Send) -> None:
    message = await receive()
    await begin(send)
    await end(send, repr(message).encode())


@http(200, text=b"{'type': 'http.request', 'body': b'', 'more_body': False}")
async def reads_where_there_is_no_body(scope: Scope, receive: Receive, send: Send) -> None:
    message = await receive()
    await begin(send)
    await end(send, repr(message).encode())


@http(200, method="POST", body=bytes(3 * MIB), text=b"unread")
async def leaves_the_body_unread(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await end(send, b"unread")


@http(200, method="POST", body=bytes(3 * MIB), text=b"half")
async def reads_a_piece_of_the_body(scope: Scope, receive: Receive, send: Send) -> None:
    assert (await receive())["more_body"]
    await begin(send)
    await end(send, b"half")


@http(200, method="POST", body=bytes(MIB), text=b"%d" % MIB)
async def reads_from_two_tasks(scope: Scope, receive: Receive, send: Send) -> None:
    """Frameworks wait for a disconnect in one task while another reads the body."""
    sizes: list[int] = []
    bodies_over = anyio.Event()

    async def read() -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            sizes.append(len(message["body"]))
            if not message["more_body"]:
                bodies_over.set()
                return

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        group.start_soon(read)
        await bodies_over.wait()
        group.cancel_scope.cancel()
    await begin(send)
    await end(send, b"%d" % sum(sizes))


@http(200, text=b"over", told=("http.disconnect", "http.disconnect"))
async def receives_after_its_answer(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await end(send, b"over")
    for _ in range(2):
        tell(scope, (await receive())["type"])


@http(200, method="POST", body=bytes(MIB), text=b"over", told=("http.disconnect",))
async def receives_an_unread_body_after_its_answer(
    scope: Scope, receive: Receive, send: Send
) -> None:
    await begin(send)
    await end(send, b"over")
    tell(scope, (await receive())["type"])


# --- Right: surroundings --------------------------------------------------------------------------

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="fresh")


async def _its_context(scope: Scope, receive: Receive, send: Send) -> None:
    found = variable.get()
    variable.set("used")
    await begin(send)
    await end(send, found.encode())


@http(200, text=b"fresh")
async def has_a_fresh_context(scope: Scope, receive: Receive, send: Send) -> None:
    await _its_context(scope, receive, send)


@http(200, text=b"fresh")
async def has_a_fresh_context_again(scope: Scope, receive: Receive, send: Send) -> None:
    await _its_context(scope, receive, send)


async def _its_state(scope: Scope, receive: Receive, send: Send) -> None:
    found = [scope["state"]["started"], "mine" in scope["state"], len(scope["state"]["shared"])]
    scope["state"]["mine"] = True
    del scope["state"]["started"]
    await begin(send)
    await end(send, json.dumps(found).encode())


@http(200, text=b"[true, false, 0]")
async def has_the_state_of_its_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    await _its_state(scope, receive, send)


@http(200, text=b"[true, false, 0]")
async def has_a_state_of_its_own(scope: Scope, receive: Receive, send: Send) -> None:
    await _its_state(scope, receive, send)


@http(200, text=b"emptied")
async def empties_its_scope(scope: Scope, receive: Receive, send: Send) -> None:
    kept = dict(scope)
    scope.clear()
    await begin(send)
    await end(send, b"emptied")
    scope.update(kept)


@http(200, text=b"answered", told=("went on",))
async def goes_on_after_its_answer(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await end(send, b"answered")
    await signals.wait(scope["path"])
    tell(scope, "went on")


@http(200, FAILED, "ValueError: afterwards", text=b"answered")
async def raises_after_its_answer(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await end(send, b"answered")
    await anyio.lowlevel.checkpoint()
    raise ValueError("afterwards")


# --- The client goes away -------------------------------------------------------------------------


@http(None, leaves_at="waiting", told=("waiting", "http.disconnect", "http.disconnect"))
async def receives_the_disconnect(scope: Scope, receive: Receive, send: Send) -> None:
    await whole_body(receive)
    tell(scope, "waiting")
    for _ in range(2):
        tell(scope, (await receive())["type"])


@http(None, leaves_at="waiting", told=("waiting", "http.disconnect", "taken", "taken"))
async def sends_after_the_disconnect(scope: Scope, receive: Receive, send: Send) -> None:
    await whole_body(receive)
    tell(scope, "waiting")
    tell(scope, (await receive())["type"])
    await attempt(scope, begin(send))
    await attempt(scope, end(send, b"to nobody"))


@http(None, leaves_at="streaming", told=("streaming", "OSError", "http.disconnect"))
async def learns_it_by_sending(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    tell(scope, "streaming")
    try:
        while True:
            await more(send, bytes(10_000))
    except OSError:
        tell(scope, "OSError")
    tell(scope, (await receive())["type"])


@http(None, leaves_at="streaming", told=("streaming", "cancelled"))
async def streams_beside_a_wait_for_the_disconnect(
    scope: Scope, receive: Receive, send: Send
) -> None:
    """As Starlette does it: what ends first cancels the other."""
    await whole_body(receive)

    async def stream() -> None:
        await begin(send)
        await more(send, b"first")
        tell(scope, "streaming")
        await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(stream)
        assert (await receive())["type"] == "http.disconnect"
        group.cancel_scope.cancel()
    tell(scope, "cancelled")


@http(None, leaves_at="waiting", told=("waiting",))
async def raises_because_of_the_disconnect(scope: Scope, receive: Receive, send: Send) -> None:
    """What an application raises because its client left is no news."""
    await whole_body(receive)
    tell(scope, "waiting")
    await receive()
    raise ClientDisconnect


@http(None, FAILED_LATE, "ValueError: after all", leaves_at="waiting", told=("waiting",))
async def raises_after_the_disconnect(scope: Scope, receive: Receive, send: Send) -> None:
    """Not because of that, as far as can be seen."""
    await whole_body(receive)
    tell(scope, "waiting")
    await receive()
    raise ValueError("after all")


@http(None, leaves_at="waiting", told=("waiting",))
async def returns_after_the_disconnect(scope: Scope, receive: Receive, send: Send) -> None:
    await whole_body(receive)
    tell(scope, "waiting")
    await receive()


# --- Wrong: it raises -----------------------------------------------------------------------------


def throw(error: BaseException) -> None:
    raise error


def raising(name: str, seen: int | str, says: str, make: Callable[[], BaseException]) -> None:
    """Add an application that raises before its head, or half-way where that is to be seen."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if seen == BROKEN:
            await begin(send)
            await more(send, b"the first half")
        await anyio.lowlevel.checkpoint()
        throw(make())

    app.__name__ = name
    http(seen, FAILED, says)(app)


raising("raises", 500, "ValueError: too early", lambda: ValueError("too early"))
raising("raises_midway", BROKEN, "ValueError: half-way", lambda: ValueError("half-way"))
raising("exits", 500, "SystemExit: 1", lambda: SystemExit(1))
raising("exits_midway", BROKEN, "SystemExit", lambda: SystemExit(0))
raising("raises_keyboard_interrupt", 500, "KeyboardInterrupt", KeyboardInterrupt)
raising("raises_keyboard_interrupt_midway", BROKEN, "KeyboardInterrupt", KeyboardInterrupt)
raising("raises_generator_exit", 500, "GeneratorExit", GeneratorExit)
raising("raises_asyncio_cancelled_error", 500, "CancelledError", asyncio.CancelledError)
raising("raises_cancelled_error_midway", BROKEN, "CancelledError", asyncio.CancelledError)
raising("raises_kept_cancellation", 500, "Cancelled", kept_cancellation)
raising("raises_kept_cancellation_midway", BROKEN, "Cancelled", kept_cancellation)
raising("raises_memory_error", 500, "MemoryError", MemoryError)
raising("raises_stop_iteration", 500, "coroutine raised StopIteration", StopIteration)
raising("raises_stop_async_iteration", 500, "StopAsyncIteration", StopAsyncIteration)
raising(
    "raises_connection_reset_of_its_own",
    500,
    "ConnectionResetError: of its database",
    lambda: ConnectionResetError("of its database"),
)
raising(
    "raises_broken_pipe_of_its_own_midway",
    BROKEN,
    "BrokenPipeError: of its database",
    lambda: BrokenPipeError("of its database"),
)
raising(
    "raises_timeout_of_its_own",
    500,
    "TimeoutError: of its database",
    lambda: TimeoutError("of its database"),
)
raising(
    "raises_a_group",
    500,
    "ExceptionGroup: several",
    lambda: BaseExceptionGroup("several", [ValueError(), KeyboardInterrupt()]),
)
raising(
    "raises_a_group_midway",
    BROKEN,
    "ExceptionGroup: several",
    lambda: ExceptionGroup("several", [ValueError(), ExceptionGroup("in it", [KeyError()])]),
)
raising(
    "raises_a_group_with_a_cancelled_error",
    500,
    "ExceptionGroup: several",
    lambda: BaseExceptionGroup("several", [ValueError(), asyncio.CancelledError()]),
)
raising(
    "raises_a_group_with_a_kept_cancellation",
    500,
    "ExceptionGroup: several",
    lambda: BaseExceptionGroup("several", [ValueError(), kept_cancellation()]),
)
raising(
    "raises_a_group_of_a_kept_cancellation",
    500,
    "ExceptionGroup: several",
    lambda: BaseExceptionGroup("several", [kept_cancellation()]),
)
raising("raises_a_lone_surrogate", 500, "ValueError", lambda: ValueError("\udcff"))
raising(
    "raises_a_forged_line",
    500,
    'ValueError: one\n{"event": "forged"}',
    lambda: ValueError('one\n{"event": "forged"}'),
)


@http(500, FAILED, "ValueError: before the body")
async def raises_after_its_start(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    raise ValueError("before the body")


@http(BROKEN, FAILED, "ValueError: after nothing")
async def raises_after_an_empty_piece(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await more(send, b"")
    raise ValueError("after nothing")


@http(200, FAILED, "ValueError: behind the end", text=b"done")
async def raises_behind_all_of_its_length(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send, headers=[*TEXT, length(4)])
    await more(send, b"done")
    raise ValueError("behind the end")


@http(500, FAILED, "Unprintable")
async def raises_what_can_not_be_printed(scope: Scope, receive: Receive, send: Send) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise ValueError

    raise Unprintable


@http(500, FAILED, "Unprintable")
async def raises_what_exits_as_it_is_printed(scope: Scope, receive: Receive, send: Send) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise SystemExit

    raise Unprintable


@http(500, FAILED, "ValueError: without a scope")
async def raises_and_empties_its_scope(scope: Scope, receive: Receive, send: Send) -> None:
    scope.clear()
    raise ValueError("without a scope")


@http(BROKEN, FAILED, "ValueError: half-way")
async def raises_midway_under_a_length(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send, headers=[*TEXT, length(28)])
    await more(send, b"the first half")
    raise ValueError("half-way")


@http(500, FAILED, "ValueError: unread", method="POST", body=bytes(3 * MIB))
async def raises_with_its_body_unread(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("unread")


@http(BROKEN, FAILED, "ValueError: half-way", method="POST", body=bytes(1000))
async def raises_midway_with_its_body_read(scope: Scope, receive: Receive, send: Send) -> None:
    await whole_body(receive)
    await begin(send)
    await more(send, b"the first half")
    raise ValueError("half-way")


@http(500, FAILED, "ValueError: in a child")
async def raises_in_a_child_task(scope: Scope, receive: Receive, send: Send) -> None:
    async def child() -> None:
        raise ValueError("in a child")

    async with anyio.create_task_group() as group:
        group.start_soon(child)
        await receive()
        await anyio.sleep_forever()


@http(500, FAILED, "RecursionError")
async def recurses(scope: Scope, receive: Receive, send: Send) -> None:
    await recurses(scope, receive, send)


@http(500, FAILED, "CancelledError", fields={"outcome": "answered 500"})
async def awaits_what_was_cancelled(scope: Scope, receive: Receive, send: Send) -> None:
    if "asyncio" in sys.modules and _is_asyncio():
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task
    raise asyncio.CancelledError


def _is_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


# --- Wrong: orders of messages --------------------------------------------------------------------


@http(500, BROKE_A_RULE, "it returned without sending a response")
async def returns_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    pass


@http(500, BROKE_A_RULE, "it returned without sending a response")
async def hides_what_it_broke(scope: Scope, receive: Receive, send: Send) -> None:
    with suppress(RuntimeError):
        await send({"type": "http.response.oops"})


@http(500, BROKE_A_RULE, "it returned before its response was complete")
async def returns_after_its_start(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)


@http(BROKEN, BROKE_A_RULE, "it returned before its response was complete")
async def returns_midway(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await more(send, b"the first half")


@http(BROKEN, BROKE_A_RULE, "it returned before its response was complete")
async def returns_with_its_length_sent_and_more_to_come(
    scope: Scope, receive: Receive, send: Send
) -> None:
    await begin(send, headers=[*TEXT, length(100)])
    await more(send, b"the first half")


@http(500, BROKE_A_RULE, ", or send http.response.start (ASGI)")
async def never_starts(scope: Scope, receive: Receive, send: Send) -> None:
    await end(send, b"no head")


@http(
    200,
    text=b"after all",
    told=(
        f"RuntimeError: {NO_HEAD}",
        f"RuntimeError: {NO_HEAD}",
    ),
)
async def starts_after_a_refused_body(scope: Scope, receive: Receive, send: Send) -> None:
    await attempt(scope, more(send, b"no head"))
    await attempt(scope, end(send, b"no head"))
    await begin(send)
    await end(send, b"after all")


@http(500, BROKE_A_RULE, "http.response.start was sent twice")
async def starts_twice(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await begin(send)


@http(BROKEN, BROKE_A_RULE, "http.response.start was sent twice")
async def starts_again_midway(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await more(send, b"the first half")
    await begin(send, 500)


@http(
    200,
    text=b"complete",
    told=(
        "RuntimeError: the response was already complete",
        "RuntimeError: the response was already complete",
        "RuntimeError: http.response.start was sent twice",
    ),
)
async def sends_after_its_end(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await end(send, b"complete")
    await attempt(scope, more(send, b"beyond"))
    await attempt(scope, end(send))
    await attempt(scope, begin(send))


@http(200, BROKE_A_RULE, "http.response.start was sent twice", text=b"complete")
async def starts_again_after_its_end(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await end(send, b"complete")
    await begin(send)


@http(200, BROKE_A_RULE, "the response was already complete", text=b"complete")
async def ends_twice(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await end(send, b"complete")
    await end(send, b"complete")


# --- Wrong: messages ------------------------------------------------------------------------------


def sending(name: str, event: str, says: str, message: Any) -> None:
    """Add an application that sends one message, where its start belongs, and nothing after it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(message)

    app.__name__ = name
    http(500, event, says)(app)


sending(
    "sends_an_unknown_message",
    BROKE_A_RULE,
    "'http.response.begin' is not a message for an HTTP response",
    {"type": "http.response.begin"},
)
sending(
    "sends_trailers",
    BROKE_A_RULE,
    "'http.response.trailers' is not a message for an HTTP response",
    {"type": "http.response.trailers", "headers": []},
)
sending(
    "sends_a_message_of_a_websocket",
    BROKE_A_RULE,
    "'websocket.accept' is not a message for an HTTP response",
    {"type": "websocket.accept"},
)
sending(
    "sends_no_type",
    BROKE_A_RULE,
    "a message has a 'type' that is a str; this one has ['status']",
    {"status": 200},
)
sending(
    "sends_bytes_as_type",
    BROKE_A_RULE,
    "a message has a 'type' that is a str",
    {"type": b"http.response.start", "status": 200},
)
sending("sends_a_list", BROKE_A_RULE, "a message is a dict", ["http.response.start", 200])
sending(
    "hints_nothing",
    BROKE_A_RULE,
    "http.response.early_hint has no 'links'",
    {"type": "http.response.early_hint"},
)
sending(
    "hints_bytes",
    BROKE_A_RULE,
    "the 'links' of http.response.early_hint is of type bytes",
    {"type": "http.response.early_hint", "links": b"</style.css>"},
)
sending("sends_none", BROKE_A_RULE, "a message is a dict, not None", None)
sending("sends_a_str", BROKE_A_RULE, "a message is a dict, not 'http", "http.response.start")
sending(
    "sends_no_status",
    BROKE_A_RULE,
    "http.response.start has no 'status'",
    {"type": "http.response.start"},
)


def sending_a_file(name: str, says: str, kind: str, **more: Any) -> None:
    """Add an application whose message about a file lacks something, after its start."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await begin(send)
        await send({"type": f"http.response.{kind}", **more})

    app.__name__ = name
    http(500, BROKE_A_RULE, says)(app)


sending_a_file("sends_a_path_without_one", "http.response.pathsend has no 'path'", "pathsend")
sending_a_file(
    "sends_a_path_by_number",
    "the 'path' of http.response.pathsend is of type int",
    "pathsend",
    path=0,
)
sending_a_file("sends_no_file", "http.response.zerocopysend has no 'file'", "zerocopysend")
sending_a_file(
    "sends_the_name_of_a_file",
    "the 'file' of http.response.zerocopysend is of type str",
    "zerocopysend",
    file=__file__,
)
sending_a_file(
    "sends_so_many_bytes_in_words",
    "the 'count' of http.response.zerocopysend is of type str",
    "zerocopysend",
    file=0,
    count="all",
)


def starting(name: str, says: str, status: Any = 200, headers: Any = TEXT) -> None:
    """Add an application whose start is not valid."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await begin(send, status, headers)
        await end(send, b"never sent")

    app.__name__ = name
    http(500, BROKE_A_RULE, says, lacks=("X-Injected",))(app)


starting("has_a_str_as_status", "the status must be an integer, not '200'", status="200")
starting("has_a_word_as_status", "the status must be an integer, not 'OK'", status="OK")
starting("has_none_as_status", "the status must be an integer, not None", status=None)
starting("has_a_float_as_status", "the status must be an integer, not 200.0", status=200.0)
starting("has_a_status_of_two_digits", "an integer from 100 to 999", status=20)
starting("has_a_status_of_four_digits", "an integer from 100 to 999", status=2000)
starting("has_an_interim_status", "status 103 is interim", status=103)
starting("switches_protocols", "status 101 is interim", status=101)
starting("has_str_headers", "headers must be pairs of bytes", headers=[("x-one", "1")])
starting("has_a_str_value", "headers must be pairs of bytes", headers=[(b"x-one", "1")])
starting("has_a_str_name", "bytes", headers=[("x-one", b"1")])
starting("has_a_header_of_three", "headers must be pairs of bytes", headers=[(b"x", b"1", b"2")])
starting("has_none_as_headers", "headers must be pairs of bytes", headers=None)
starting("has_a_dict_of_headers", "headers must be pairs of bytes", headers={b"x-one": b"1"})
starting(
    "injects_by_a_value",
    "the value of 'x-one' holds a CR, LF or NUL",
    headers=[(b"x-one", b"1\r\nX-Injected: 1")],
)
starting(
    "injects_by_a_line_feed",
    "the value of 'x-one' holds a CR, LF or NUL",
    headers=[(b"x-one", b"1\nX-Injected: 1")],
)
starting(
    "injects_by_a_name",
    "is not a header name",
    headers=[(b"x-one: 1\r\nX-Injected", b"1")],
)
starting(
    "injects_an_answer",
    "the value of 'x-one' holds a CR, LF or NUL",
    headers=[(b"x-one", b"1\r\n\r\nHTTP/1.1 200 OK\r\nX-Injected: 1\r\n\r\n")],
)
starting(
    "has_a_nul_in_a_value",
    "the value of 'x-one' holds a CR, LF or NUL",
    headers=[(b"x-one", b"1\x002")],
)
starting("has_a_blank_in_a_name", "is not a header name", headers=[(b"x one", b"1")])
starting("has_an_empty_name", "is not a header name", headers=[(b"", b"1")])
starting(
    "has_a_length_that_is_no_number",
    "Content-Length is b'ten', not a decimal number",
    headers=[(b"content-length", b"ten")],
)
starting(
    "has_a_negative_length",
    "Content-Length is b'-1', not a decimal number",
    headers=[(b"content-length", b"-1")],
)
starting(
    "has_two_lengths",
    "two Content-Length headers, 4 and 5",
    headers=[length(4), length(5)],
)


def body_of(name: str, kind: str, body: Any) -> None:
    """Add an application whose body is of a wrong type."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await begin(send)
        await end(send, body)

    app.__name__ = name
    http(500, BROKE_A_RULE, f"the body is of type {kind}, not bytes")(app)


body_of("has_a_str_body", "str", "text")
body_of("has_no_body_but_none", "NoneType", None)
body_of("has_a_number_as_body", "int", 5)
body_of("has_a_list_of_bytes", "list", [b"one", b"two"])


@http(BROKEN, BROKE_A_RULE, "the body is of type str, not bytes")
async def has_a_str_second(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await more(send, b"bytes")
    await end(send, "text")


# --- Wrong: lengths -------------------------------------------------------------------------------


@http(500, BROKE_A_RULE, "the body has 3 bytes, its Content-Length is 10")
async def is_too_short(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send, headers=[*TEXT, length(10)])
    await end(send, b"ten")


@http(BROKEN, BROKE_A_RULE, "the body has 8 bytes, its Content-Length is 10")
async def is_too_short_in_pieces(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send, headers=[*TEXT, length(10)])
    await more(send, b"four")
    await end(send, b"four")


@http(200, CUT, text=b"four", fields={"level": "warning", "excess_bytes": 6})
async def is_too_long(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send, headers=[*TEXT, length(4)])
    await end(send, b"four and s")


@http(200, CUT, text=b"four", fields={"excess_bytes": 6})
async def is_too_long_in_pieces(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send, headers=[*TEXT, length(4)])
    await more(send, b"fou")
    await more(send, b"r a")
    await end(send, b"nd s")


# --- Wrong: the callable --------------------------------------------------------------------------


def returns_nothing_to_await(scope: Scope, receive: Receive, send: Send) -> None:
    tell(scope, "called")


def returns_another_callable(scope: Scope, receive: Receive, send: Send) -> Any:
    async def instance(receive: Receive, send: Send) -> None:
        pass

    return instance


_not_asgi: list[Any] = [returns_nothing_to_await, returns_another_callable]
http(500, FAILED, "TypeError", told=("called",))(_not_asgi[0])
http(500, FAILED, "TypeError")(_not_asgi[1])
