"""Stand-in uwsgi servers, for one connection each, that answer well, badly, late or not at all."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from uwsgibridge.client import (
    request,
)
from uwsgibridge.protocol.packet import Packet, PacketLimits, parse_packet

# A test that hangs is a failure: longer than any answer takes on a busy machine.
PATIENCE_SECONDS = 20.0
# For an answer that never comes.
SHORT_SECONDS = 0.1

OK = b"HTTP/1.1 200 OK\r\n"


class Peer:
    """The server's end of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.body_start = b""

    def receive_packet(self) -> Packet:
        received = b""
        while True:
            piece = self.connection.recv(65_536)
            assert piece, "the client went away inside its packet"
            received += piece
            packet = parse_packet(memoryview(received), PacketLimits())
            if packet is not None:
                self.body_start = received[packet.size_bytes :]
                return packet

    def receive_request(self) -> tuple[dict[str, str], bytes]:
        variables = self.receive_packet().vars
        body = self.body_start
        while len(body) < int(variables.get("CONTENT_LENGTH") or 0):
            piece = self.connection.recv(65_536)
            assert piece, "the client went away inside its body"
            body += piece
        return variables, body

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def reset(self) -> None:
        if self.connection.family != socket.AF_UNIX:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()


Behaviour = Callable[[Peer], object]
Serve = Callable[[Behaviour], Any]


def listen(family: str, directory: Path) -> tuple[socket.socket, str]:
    if family == "unix":
        path = directory / "app.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        return listener, f"unix:{path}"
    if family == "ipv6":
        try:
            listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
        return listener, f"[::1]:{listener.getsockname()[1]}"
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def serving(behaviour: Behaviour, family: str, directory: Path) -> Iterator[str]:
    """Accept one connection, behave, close; what the behaviour raises fails the test."""
    listener, address = listen(family, directory)
    problems: list[BaseException] = []

    def serve() -> None:
        try:
            connection, _ = listener.accept()
            connection.settimeout(PATIENCE_SECONDS)
            with connection:
                behaviour(Peer(connection))
        except BaseException as problem:
            problems.append(problem)

    with listener:
        listener.settimeout(PATIENCE_SECONDS)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield address
        finally:
            thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    if problems:
        raise problems[0]


def answering(answer: bytes, seen: list[tuple[dict[str, str], bytes]] | None = None) -> Behaviour:
    def behave(peer: Peer) -> None:
        received = peer.receive_request()
        if seen is not None:
            seen.append(received)
        peer.send(answer)

    return behave


def vars_of(path: str = "/", **options: Any) -> dict[str, str]:
    """Give the vars that a server receives for one request."""
    seen: list[tuple[dict[str, str], bytes]] = []
    with serving(answering(OK + b"\r\n", seen), "ipv4", Path()) as address:
        assert request(address, path, **options).status == 200
    return seen[0][0]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
