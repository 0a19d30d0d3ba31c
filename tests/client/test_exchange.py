"""A request's body goes out whole, while the answer may come in already."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.uwsgi_server import (
    OK,
    PATIENCE_SECONDS,
    Peer,
    Serve,
    answering,
    vars_of,
)
from uwsgibridge.client import (
    RequestError,
    request,
    stream,
)


def pipe_with(data: bytes) -> io.FileIO:
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return io.FileIO(reading)


def file_at(data: bytes, position: int) -> io.BytesIO:
    file = io.BytesIO(data)
    file.seek(position)
    return file


@pytest.mark.parametrize(
    ("make_body", "sent", "content_length"),
    [
        (lambda: b"", b"", ""),
        (lambda: b"a=1", b"a=1", "3"),
        (lambda: b"x" * 300_000, b"x" * 300_000, "300000"),
        (lambda: file_at(b"skipped, sent", 9), b"sent", "4"),
        (lambda: file_at(b"", 0), b"", "0"),
        (lambda: pipe_with(b"piped"), b"piped", "5"),
    ],
)
def test_bodies_are_sent_whole(
    serve: Serve, make_body: Callable[[], Any], sent: bytes, content_length: str
) -> None:
    seen: list[tuple[dict[str, str], bytes]] = []
    body = make_body()
    with serve(answering(OK + b"\r\n", seen)) as address:
        request(address, method="PUT", headers={"Content-Type": "text/plain"}, body=body)
    if not isinstance(body, bytes):
        assert not body.closed
        body.close()
    received, received_body = seen[0]
    assert received_body == sent
    assert received["REQUEST_METHOD"] == "PUT"
    assert received["CONTENT_LENGTH"] == content_length
    assert received["CONTENT_TYPE"] == received["HTTP_CONTENT_TYPE"] == "text/plain"
    assert received.get("HTTP_CONTENT_LENGTH", "") == content_length


def test_a_content_length_of_the_caller_stands() -> None:
    assert vars_of(headers={"Content-Length": "2"}, body=b"four")["CONTENT_LENGTH"] == "2"


class ShrinkingFile(io.BytesIO):
    """Says that it holds 100,000 bytes, and gives 10."""

    def __init__(self) -> None:
        super().__init__(bytes(100_000))

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(10) if self.tell() == 0 else b""


class UnreadableFile(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (ShrinkingFile(), "ended 99990 bytes early"),
        (UnreadableFile(b"x"), "body can't be read: Input/output error"),
    ],
)
def test_a_body_that_fails_is_not_the_servers_fault(
    serve: Serve, body: io.BytesIO, says: str
) -> None:
    def behave(peer: Peer) -> None:
        peer.receive_packet()
        while peer.connection.recv(65_536):
            pass

    with serve(behave) as address, pytest.raises(RequestError, match=says):
        request(address, body=body)


def test_the_connection_is_never_half_closed(serve: Serve) -> None:
    head_arrived = threading.Event()

    def behave(peer: Peer) -> None:
        peer.receive_request()
        peer.send(OK + b"Content-Length: 4\r\n\r\n")
        assert head_arrived.wait(PATIENCE_SECONDS)
        peer.connection.setblocking(False)
        with pytest.raises(BlockingIOError):  # and not b"", the end of the request
            peer.connection.recv(1)
        peer.send(b"body")

    with serve(behave) as address, stream(address, body=b"1234") as answer:
        head_arrived.set()
        assert b"".join(answer.chunks) == b"body"


def test_an_early_refusal_of_a_large_body_is_read(serve: Serve) -> None:
    def behave(peer: Peer) -> None:
        peer.receive_packet()
        peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno\n")
        # and closes with most of the body unread, which is a reset

    with serve(behave) as address:
        response = request(address, body=bytes(16 * 1024 * 1024))
    assert (response.status, response.body) == (413, b"no\n")


class BodyThatIsRefused(io.BytesIO):
    """Is read after the connection was found writable; the server refuses it just then."""

    def __init__(self) -> None:
        super().__init__(bytes(1000))
        self.wanted = threading.Event()
        self.refused = threading.Event()

    def read(self, size: int | None = -1, /) -> bytes:
        self.wanted.set()
        assert self.refused.wait(PATIENCE_SECONDS)
        return super().read(size)


def test_a_refusal_between_two_looks_at_the_connection_is_read(serve: Serve) -> None:
    body = BodyThatIsRefused()

    def behave(peer: Peer) -> None:
        assert body.wanted.wait(PATIENCE_SECONDS)
        peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno\n")
        peer.connection.close()
        body.refused.set()

    with serve(behave) as address:
        response = request(address, body=body)
    assert (response.status, response.body) == (413, b"no\n")


def test_an_answer_may_come_while_the_body_still_goes_out(serve: Serve) -> None:
    sent = os.urandom(1024 * 1024) * 8

    def echo(peer: Peer) -> None:
        remaining_bytes = int(peer.receive_packet().vars["CONTENT_LENGTH"])
        peer.send(OK + b"\r\n")
        piece = peer.body_start
        while True:
            peer.send(piece)
            remaining_bytes -= len(piece)
            if not remaining_bytes:
                return
            piece = peer.connection.recv(65_536)
            assert piece

    with serve(echo) as address:
        assert request(address, body=sent).body == sent
