"""A ping, and what answers it that is no uwsgi server."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.uwsgi_server import (
    PATIENCE_SECONDS,
    SHORT_SECONDS,
    Peer,
    Serve,
    serving,
)
from uwsgibridge.client import (
    PingError,
    ping,
)
from uwsgibridge.config.address import TcpAddress
from uwsgibridge.protocol.packet import PING, PONG


def test_ping_measures_the_round_trip(serve_all: Serve) -> None:
    asked: list[bytes] = []

    def pong(peer: Peer) -> None:
        asked.append(peer.connection.recv(100))
        for byte in PONG:
            peer.send(bytes([byte]))

    with serve_all(pong) as address:
        elapsed_seconds = ping(address)
    assert asked == [PING]
    assert 0 < elapsed_seconds < PATIENCE_SECONDS


def test_ping_takes_a_parsed_address() -> None:
    def pong(peer: Peer) -> None:
        peer.connection.recv(100)
        peer.send(PONG)

    with serving(pong, "ipv4", Path()) as address:
        assert ping(TcpAddress("127.0.0.1", int(address.rpartition(":")[2]))) > 0


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "An HTTP server answers at"),
        (b"", "closed the connection where a uwsgi server"),
        (PONG[:3], "something else listens there"),
        (b"+OK\r\n", "something else listens there"),
        # A TCP connection to itself, or an echo server, gives the question back.
        (PING, "something else listens there"),
    ],
)
def test_ping_refuses_any_other_answer(serve: Serve, answer: bytes, says: str) -> None:
    def behave(peer: Peer) -> None:
        peer.connection.recv(100)
        peer.send(answer)

    with serve(behave) as address, pytest.raises(PingError, match=says) as raised:
        ping(address)
    assert address in str(raised.value)


def test_ping_explains_a_reset(serve: Serve) -> None:
    def behave(peer: Peer) -> None:
        peer.connection.recv(1)  # on a unix socket, unread input resets
        peer.reset()

    with serve(behave) as address, pytest.raises(PingError, match="broke the connection"):
        ping(address)


def test_ping_has_a_deadline(serve: Serve) -> None:
    over = threading.Event()

    with serve(lambda _peer: over.wait(PATIENCE_SECONDS)) as address:
        with pytest.raises(PingError, match=r"no answer within 0\.1 s"):
            ping(address, timeout_seconds=SHORT_SECONDS)
        over.set()
