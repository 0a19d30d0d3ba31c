"""A frontend's side of the wire, byte by byte: what an HTTP client would hide is what is tested."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.config.address import TcpAddress, UnixAddress, parse_address
from uwsgibridge.protocol.packet import encode_packet


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        status: 0 where no head came.
        headers: names in lower case.
        body: what came of it.
        broken: whether the connection was reset, or ended before Content-Length bytes: what a
            frontend takes for a failure.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    broken: bool

    @property
    def seen(self) -> int | str:
        """The status, or ``broken``: the one word of a table."""
        return "broken" if self.broken else self.status


def connect(address: str) -> socket.socket:
    """Open a connection; the caller closes it."""
    match parse_address(address):
        case TcpAddress(host, port):
            return socket.create_connection((host, port), PATIENCE_SECONDS)
        case UnixAddress(path):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(PATIENCE_SECONDS)
            try:
                connection.connect(path)
            except BaseException:
                connection.close()
                raise
            return connection
        case other:
            raise AssertionError(other)


def packet(
    path: str = "/",
    *,
    method: str = "GET",
    content_length: int | None = None,
    modifier1: int = 0,
    **variables: str,
) -> bytes:
    """Encode a request as nginx sends it."""
    length = "" if content_length is None else str(content_length)
    return encode_packet(
        {
            "QUERY_STRING": "",
            "REQUEST_METHOD": method,
            "CONTENT_TYPE": "",
            "CONTENT_LENGTH": length,
            "REQUEST_URI": path,
            "PATH_INFO": path,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REQUEST_SCHEME": "http",
            "REMOTE_ADDR": "203.0.113.7",
            "REMOTE_PORT": "40000",
            "SERVER_NAME": "example.org",
            "SERVER_PORT": "80",
            "HTTP_HOST": "example.org",
            **variables,
        },
        modifier1=modifier1,
    )


def read_answer(
    connection: socket.socket, *, is_reset: bool = False, carries_body: bool = True
) -> Answer:
    """Read to the end of the connection.

    Args:
        connection: where to read.
        is_reset: whether a send has already told of a reset; the kernel tells it only once.
        carries_body: False for an answer to HEAD.
    """
    received = bytearray()
    while True:
        try:
            piece = connection.recv(1 << 20)
        except ConnectionResetError:
            is_reset = True
            break
        if not piece:
            break
        received += piece
    head, end_of_head, body = bytes(received).partition(b"\r\n\r\n")
    if not end_of_head:
        return Answer(0, {}, bytes(received), broken=True)
    status_line, *lines = head.decode("latin-1").split("\r\n")
    assert status_line.startswith("HTTP/1.1 "), status_line
    headers = {}
    for line in lines:
        name, _, value = line.partition(": ")
        headers[name.lower()] = value
    promised = int(headers.get("content-length", len(body)))
    assert len(body) <= promised, f"{len(body)} bytes, {promised} promised"
    short = carries_body and len(body) < promised
    return Answer(int(status_line[9:12]), headers, body, broken=is_reset or short)


def read_until(connection: socket.socket, ending: bytes) -> bytes:
    """Read up to bytes that are known to come."""
    received = b""
    while not received.endswith(ending):
        piece = connection.recv(65_536)
        assert piece, f"the connection ended after {received!r}"
        received += piece
    return received


def ask(
    address: str, path: str = "/", *, method: str = "GET", body: bytes | None = None, **vars_: Any
) -> Answer:
    """Send one request, and read its answer."""
    is_reset = False
    with connect(address) as connection:
        length = None if body is None else len(body)
        request = packet(path, method=method, content_length=length, **vars_)
        try:
            connection.sendall(request + (body or b""))
        except (ConnectionResetError, BrokenPipeError):
            is_reset = True
        return read_answer(connection, is_reset=is_reset, carries_body=method != "HEAD")


def reset(connection: socket.socket) -> None:
    """Go away at once, with what is on its way unread."""
    if connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
