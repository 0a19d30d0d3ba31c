"""Answers of the bridge's own: none has a body after HEAD, and each has the length that GET would have."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from tests.bridge import Bridge, on_each_socket, running
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import connect, packet

HANDSHAKE: dict[str, Any] = {
    "HTTP_UPGRADE": "websocket",
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
}

SHORT_SECONDS = 0.1


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/asgi/slow":
        await anyio.sleep(600)
    if scope["path"] == "/asgi/reads":
        while (await receive())["type"] == "http.request":
            pass
        return
    raise ValueError


def wsgi(environ: Any, start_response: Any) -> Any:
    if environ["PATH_INFO"] == "/slow":
        threading.Event().wait(1)
    if environ["PATH_INFO"] == "/reads":
        environ["wsgi.input"].read()
    raise ValueError


def head_of(bridge: Bridge, data: bytes) -> bytes:
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


def request(path: str, **details: Any) -> Callable[[], bytes]:
    return lambda: packet(path, method="HEAD", **details)


@on_each_socket
@pytest.mark.parametrize(
    ("status", "make"),
    [
        (404, request("/nowhere")),
        (413, request("/asgi", content_length=1000)),
        (413, request("/wsgi", content_length=1000)),
        (400, request("/asgi", CONTENT_LENGTH="much")),
        (400, request("/asgi", **HANDSHAKE)),
        (400, request("/wsgi", **HANDSHAKE)),
        (500, request("/asgi")),
        (500, request("/wsgi")),
        (504, request("/asgi/slow")),
        (504, request("/wsgi/slow")),
        (408, request("/asgi/reads", content_length=10)),
        (408, request("/wsgi/reads", content_length=10)),
        (400, lambda: b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ],
)
def test_no_answer_has_a_body_after_head(family: str, status: int, make: Callable[[], bytes]):
    with running(
        None,
        family,
        mounts={"/asgi": asgi, "/wsgi": wsgi},
        lifespan="off",
        max_body_bytes=100,
        body_timeout_seconds=SHORT_SECONDS,
        request_timeout_seconds=3 * SHORT_SECONDS if status == 504 else PATIENCE_SECONDS,
        # The thread that is late is to come back, on a slow machine, too.
        request_interrupt_seconds=PATIENCE_SECONDS,
        linger_seconds=SHORT_SECONDS,
        threads=4,
    ) as bridge:
        received = head_of(bridge, make())

    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0].startswith(b"HTTP/1.1 %d " % status), head
    assert body == b""
    (length,) = [line for line in lines if line.lower().startswith(b"content-length: ")]
    assert int(length.partition(b": ")[2]) > 10
