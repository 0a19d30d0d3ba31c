"""Answers of stand-in servers: whole, cut, late, or none at all."""

from __future__ import annotations

import gc
import sys
import threading
import tracemalloc
from contextlib import suppress

import pytest

from tests.uwsgi_server import (
    OK,
    PATIENCE_SECONDS,
    SHORT_SECONDS,
    Peer,
    Serve,
    answering,
)
from uwsgibridge.client import (
    RequestError,
    TruncatedAnswerError,
    request,
    stream,
)
from uwsgibridge.protocol.packet import PONG


def test_a_whole_answer_is_read(serve_all: Serve) -> None:
    head = (
        OK + b"Content-Length: 5\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-Name: caf\xe9\r\n\r\n"
    )
    with serve_all(answering(head + b"hello")) as address:
        response = request(address)
    assert (response.status, response.reason, response.body) == (200, "OK", b"hello")
    assert response.headers == [
        ("Content-Length", "5"),
        ("Set-Cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("X-Name", "caf\xe9"),
    ]
    assert response.head == head
    assert response.header("SET-COOKIE") == "a=1"
    assert response.header("absent") is None


def test_an_answer_byte_by_byte(serve: Serve) -> None:
    def behave(peer: Peer) -> None:
        peer.receive_request()
        for byte in b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n":
            peer.send(bytes([byte]))

    with serve(behave) as address:
        response = request(address)
    assert (response.status, response.reason, response.body) == (404, "Not Found", b"no\n")


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK + b"\r\nuntil the close", b"until the close"),
        (OK + b"\r\n", b""),
        (OK + b"Content-Length: 2\r\n\r\nabcd", b"ab"),
        # Nginx doesn't undo it either: an application server that sends it is at fault.
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", b"1\r\na\r\n0\r\n\r\n"),
    ],
)
def test_where_a_body_ends(serve: Serve, answer: bytes, body: bytes) -> None:
    with serve(answering(answer)) as address:
        assert request(address).body == body


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("GET", OK + b"Content-Length: 0\r\n\r\n"),
        ("HEAD", OK + b"Content-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    ],
)
def test_no_body_is_waited_for_where_none_can_come(
    serve: Serve, method: str, answer: bytes
) -> None:
    answered = threading.Event()

    def behave(peer: Peer) -> None:
        peer.receive_request()
        peer.send(answer)
        assert answered.wait(PATIENCE_SECONDS)

    with serve(behave) as address:
        assert request(address, method=method, timeout_seconds=PATIENCE_SECONDS / 2).body == b""
        answered.set()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"", "closed the connection without an answer: .*or the worker .* died"),
        (PONG, "which is not HTTP"),
        (b"Status: 200 OK\r\n\r\n", "which is not HTTP"),
        (b"HTTP/1.1 OK\r\n\r\n", "not valid HTTP"),
        (b"HTTP/2 200 OK\r\n\r\n", "not valid HTTP"),
        (OK + b"X-Long: " + b"x" * 70_000 + b"\r\n\r\n", "not valid HTTP: .*65536"),
        (OK + b"X: 1\r\n" * 200 + b"\r\n", "not valid HTTP: .*100 headers"),
        (OK + b"X-One: 1\r\nno header\r\nX-Two: 2\r\n\r\n", "a line that is no header"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"\r\n", "interim answer 100"),
    ],
)
def test_what_is_not_an_answer(serve: Serve, answer: bytes, says: str) -> None:
    with serve(answering(answer)) as address, pytest.raises(RequestError, match=says) as raised:
        request(address)
    assert not isinstance(raised.value, TruncatedAnswerError)
    assert address in str(raised.value)


@pytest.mark.parametrize(
    ("answer", "received_bytes"),
    [
        (b"HTTP/1.1 20", 0),
        (OK + b"Content-Le", 0),
        (OK + b"Content-Length: 4\r\n", 0),
        (OK + b"Content-Length: 10\r\n\r\n", 0),
        (OK + b"Content-Length: 10\r\n\r\n12345", 5),
    ],
)
def test_an_answer_cut_by_a_close(serve: Serve, answer: bytes, received_bytes: int) -> None:
    with (
        serve(answering(answer)) as address,
        pytest.raises(TruncatedAnswerError, match=r"broke off .*or the worker .* died") as raised,
    ):
        request(address)
    assert raised.value.received_bytes == received_bytes


@pytest.mark.parametrize("answer", [OK + b"\r\nbody", OK + b"Content-Le", b"HTTP/1.1 x"])
def test_nothing_is_left_open_for_the_collector_to_complain_of(
    serve: Serve, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    complaints: list[object] = []
    with serve(answering(answer)) as address, suppress(RequestError, TruncatedAnswerError):
        request(address)
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    gc.collect()
    assert not complaints


@pytest.mark.parametrize("length", [b"", b"Content-Length: 10\r\n"])
def test_an_answer_cut_by_a_reset(serve: Serve, length: bytes) -> None:
    arrived = threading.Event()

    def behave(peer: Peer) -> None:
        # The last byte of the request stays unread: that resets a unix socket.
        peer.connection.recv(4)
        peer.send(OK + length + b"\r\n12345")
        assert arrived.wait(PATIENCE_SECONDS)
        peer.reset()

    with serve(behave) as address, stream(address) as answer:
        assert next(answer.chunks) == b"12345"
        arrived.set()
        with pytest.raises(TruncatedAnswerError, match="broke off after 5") as raised:
            next(answer.chunks)
    assert raised.value.received_bytes == 5


def test_a_reset_inside_the_head(serve: Serve) -> None:
    def behave(peer: Peer) -> None:
        peer.connection.recv(4)
        peer.send(OK)
        peer.reset()

    with serve(behave) as address, pytest.raises(TruncatedAnswerError, match="inside its head"):
        request(address)


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"", r"no head of an answer within 0\.1 s"),
        (OK, r"no head of an answer within 0\.1 s"),
        (OK + b"\r\n123", r"did not complete its answer within 0\.1 s \(3 bytes"),
    ],
)
def test_an_answer_that_stalls_meets_the_deadline(serve: Serve, start: bytes, says: str) -> None:
    over = threading.Event()

    def behave(peer: Peer) -> None:
        peer.receive_request()
        peer.send(start)
        over.wait(PATIENCE_SECONDS)

    with serve(behave) as address:
        with pytest.raises(RequestError, match=says):
            request(address, timeout_seconds=SHORT_SECONDS)
        over.set()


def test_the_deadline_is_for_all_of_an_answer_that_never_stops(serve: Serve) -> None:
    def behave(peer: Peer) -> None:
        peer.receive_request()
        peer.send(OK + b"\r\n")
        with suppress(BrokenPipeError, ConnectionResetError):
            while True:
                peer.send(b"x")

    with (
        serve(behave) as address,
        pytest.raises(RequestError, match="did not complete its answer"),
        stream(address, timeout_seconds=SHORT_SECONDS) as answer,
    ):
        for _chunk in answer.chunks:
            pass


def test_the_deadline_is_for_a_body_that_nobody_reads(serve: Serve) -> None:
    over = threading.Event()

    def behave(peer: Peer) -> None:
        peer.receive_packet()
        over.wait(PATIENCE_SECONDS)

    with serve(behave) as address:
        with pytest.raises(RequestError, match=r"within 0\.1 s"):
            request(address, body=bytes(16 * 1024 * 1024), timeout_seconds=SHORT_SECONDS)
        over.set()


def test_a_download_is_not_held_in_memory(serve: Serve) -> None:
    piece = bytes(1024 * 1024)

    def behave(peer: Peer) -> None:
        peer.receive_request()
        peer.send(OK + b"Content-Length: %d\r\n\r\n" % (64 * len(piece)))
        for _ in range(64):
            peer.send(piece)

    with serve(behave) as address, stream(address) as answer:
        tracemalloc.start()
        try:
            received_bytes = sum(len(chunk) for chunk in answer.chunks)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert received_bytes == 64 * len(piece)
    assert peak_bytes < 1024 * 1024


def test_leaving_the_context_closes_the_connection(serve: Serve) -> None:
    seen_at_the_end: list[bytes] = []

    def behave(peer: Peer) -> None:
        peer.receive_request()
        peer.send(OK + b"Content-Length: 10\r\n\r\n")
        seen_at_the_end.append(peer.connection.recv(1))

    with serve(behave) as address, stream(address) as answer:
        assert answer.status == 200
    assert seen_at_the_end == [b""]
