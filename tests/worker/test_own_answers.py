"""Answers of the bridge's own: none has a body after HEAD, and each has the length that GET would have."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import anyio
import pytest

from tests.bridge import Bridge, on_each_socket, running
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import connect, packet
from tests.websocket_client import HANDSHAKE
from uwsgibridge.protocol.packet import HEADER_BYTES, encode_packet

SHORT_SECONDS = 0.1


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/asgi/slow":
        await anyio.sleep(600)
    if scope["path"] == "/asgi/reads":
        while (await receive())["type"] == "http.request":
            pass
        return
    if scope["path"] == "/asgi/closes":
        await send({"type": "websocket.close"})
        return
    raise ValueError


def wsgi(environ: Any, start_response: Any) -> Any:
    if environ["PATH_INFO"] == "/slow":
        threading.Event().wait(1)
    if environ["PATH_INFO"] == "/reads":
        environ["wsgi.input"].read()
    raise ValueError


def received_after(bridge: Bridge, data: bytes) -> bytes:
    """Send something, and give all that comes back."""
    with connect(bridge.address) as connection:
        connection.settimeout(PATIENCE_SECONDS)
        connection.sendall(data)
        received = b""
        try:
            while piece := connection.recv(65_536):
                received += piece
        except ConnectionResetError:
            pass
        return received


def request(path: str, **details: Any) -> Callable[[str], bytes]:
    return lambda method: packet(path, method=method, **details)


def many_vars(method: str) -> bytes:
    return encode_packet([("REQUEST_METHOD", method), *[("X", "")] * 299])


def long_vars(method: str) -> bytes:
    """A packet of 7000 bytes of vars."""
    others = len(encode_packet({"REQUEST_METHOD": method, "LONG": ""})) - HEADER_BYTES
    return encode_packet({"REQUEST_METHOD": method, "LONG": "x" * (7000 - others)})


def http(method: str) -> bytes:
    return f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def answer(line: bytes, sentence: bytes, *headers: bytes) -> bytes:
    length = b"Content-Length: %d" % (len(sentence) + 1)
    lines = [b"HTTP/1.1 " + line, b"Content-Type: text/plain; charset=utf-8", *headers, length]
    return b"\r\n".join(lines) + b"\r\n\r\n" + sentence + b"\n"


NOT_MOUNTED = answer(b"404 Not Found", b"No application is mounted at this path.")
CONTENT_TOO_LARGE = HTTPStatus(413).phrase.encode()  # Python 3.13 has RFC 9110's
TOO_LARGE = answer(b"413 " + CONTENT_TOO_LARGE, b"the body has 1000 bytes, the limit is 100")
NO_LENGTH = answer(b"400 Bad Request", b"CONTENT_LENGTH is 'much', not a decimal number")
TOO_MANY_VARS = answer(
    b"431 Request Header Fields Too Large", b"the packet holds 300 vars, the limit is 200"
)
TOO_LONG_VARS = answer(
    b"431 Request Header Fields Too Large",
    b"the packet holds 7000 bytes of vars, the limit is 6000",
)
NO_TUNNELS = answer(
    b"501 Not Implemented",
    b"Apache's mod_proxy_uwsgi can't carry WebSockets: it hands the answer 101 on as an ordinary one. "
    b"Let Nginx pass them to the bridge",
)
OLD_VERSION = answer(
    b"426 Upgrade Required",
    b"this server speaks WebSocket version 13",
    b"Sec-WebSocket-Version: 13",
)
NO_WEBSOCKETS = answer(
    b"400 Bad Request",
    b"this application is WSGI, which has no WebSockets without --wsgi-websockets",
)
HTTP_ARRIVED = answer(
    b"400 Bad Request",
    b"HTTP arrived on a uwsgi port: in Nginx, use uwsgi_pass (not proxy_pass) for this address",
)
FAILED = answer(b"500 Internal Server Error", b"The application failed. The server's log says why.")
BODY_STALLED = answer(b"408 Request Timeout", b"The request's body did not arrive in time.")
OVERDUE = answer(b"504 Gateway Timeout", b"The application did not answer in time.")
DENIED = answer(b"403 Forbidden", b"The WebSocket was refused.")


@on_each_socket
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (request("/nowhere"), NOT_MOUNTED),
        (request("/asgi", content_length=1000), TOO_LARGE),
        (request("/wsgi", content_length=1000), TOO_LARGE),
        (request("/asgi", CONTENT_LENGTH="much"), NO_LENGTH),
        (request("/asgi", **HANDSHAKE, SERVER_SOFTWARE="Apache"), NO_TUNNELS),
        (many_vars, TOO_MANY_VARS),
        (long_vars, TOO_LONG_VARS),
        (request("/wsgi", **HANDSHAKE), NO_WEBSOCKETS),
        (request("/asgi"), FAILED),
        (request("/wsgi"), FAILED),
        (request("/asgi/slow"), OVERDUE),
        (request("/wsgi/slow"), OVERDUE),
        (request("/asgi/reads", content_length=10), BODY_STALLED),
        (request("/wsgi/reads", content_length=10), BODY_STALLED),
        (http, HTTP_ARRIVED),
    ],
)
def test_each_answer_is_these_bytes(
    family: str, method: str, make: Callable[[str], bytes], expected: bytes
) -> None:
    with running(
        None,
        family,
        mounts={"/asgi": asgi, "/wsgi": wsgi},
        lifespan="off",
        max_body_bytes=100,
        max_vars=200,
        max_vars_bytes=6000,
        body_timeout_seconds=SHORT_SECONDS,
        request_timeout_seconds=3 * SHORT_SECONDS if expected is OVERDUE else PATIENCE_SECONDS,
        # The thread that is late is to come back, on a slow machine, too.
        request_interrupt_seconds=PATIENCE_SECONDS,
        linger_seconds=SHORT_SECONDS,
        threads=4,
    ) as bridge:
        received = received_after(bridge, make(method))

    if method == "HEAD":
        expected = expected.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert received == expected


@on_each_socket
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (request("/asgi", **{**HANDSHAKE, "HTTP_SEC_WEBSOCKET_VERSION": "8"}), OLD_VERSION),
        (request("/asgi", **HANDSHAKE), FAILED),
        (request("/asgi/closes", **HANDSHAKE), DENIED),
    ],
)
def test_each_answer_to_get_alone_is_these_bytes(
    family: str, make: Callable[[str], bytes], expected: bytes
) -> None:
    with running(None, family, mounts={"/asgi": asgi}, lifespan="off") as bridge:
        assert received_after(bridge, make("GET")) == expected
