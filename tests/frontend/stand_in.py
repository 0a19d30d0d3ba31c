"""A stand-in for the bridge, and how tests ask the Nginx before it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import requests

from uwsgibridge.frontend.private import PrivateNginx

PATIENCE_SECONDS = 20.0
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


@dataclass
class StandIn:
    """Answers each uwsgi request with the same bytes, and keeps what came."""

    listener: socket.socket
    answer: bytes = OK + b"\r\nhello"
    # Sends back what comes after the answer's head, as in an upgraded connection.
    echo: bool = False
    received: list[list[tuple[str, str]]] = field(default_factory=list)
    packet_sizes: list[int] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    def vars(self) -> dict[str, str]:
        """Give the vars of the only request, each of which was sent once."""
        (pairs,) = self.received
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    def run(self) -> None:
        """Serve one connection after the other until the listener is shut down."""
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            # A client of Nginx that gives up takes the connection with it.
            with connection, suppress(ConnectionError):
                connection.settimeout(PATIENCE_SECONDS)
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            size = int.from_bytes(stream.read(4)[1:3], "little")
            packet = stream.read(size)
            pairs = list(_vars(packet))
            self.packet_sizes.append(size)
            self.received.append(pairs)
            stream.read(int(dict(pairs)["CONTENT_LENGTH"] or 0))
            connection.sendall(self.answer)
            while self.echo and (data := connection.recv(4096)):
                connection.sendall(data)


def _vars(packet: bytes) -> Iterator[tuple[str, str]]:
    texts = []
    while packet:
        end = 2 + int.from_bytes(packet[:2], "little")
        texts.append(packet[2:end].decode("latin-1"))
        packet = packet[end:]
    yield from zip(texts[::2], texts[1::2], strict=True)


def get(nginx: PrivateNginx, path: str = "/", **values: object) -> requests.Response:
    return requests.get(nginx.url + path, timeout=PATIENCE_SECONDS, **values)  # type: ignore[arg-type] # requests checks


def say(nginx: PrivateNginx, request: bytes) -> bytes:
    """Send bytes, and read until Nginx closes the connection."""
    with socket.create_connection(("127.0.0.1", nginx.port), PATIENCE_SECONDS) as client:
        client.sendall(request)
        with client.makefile("rb") as stream:
            return stream.read()
