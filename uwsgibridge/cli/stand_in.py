"""Answers requests in place of a bridge that does not run, on the listening socket of that bridge."""

from __future__ import annotations

import contextlib
import socket
from typing import Final

import trio

from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.protocol import answers
from uwsgibridge.protocol.packet import HEAD_VAR

# How many clients are answered at a time; others wait in the backlog. A browser opens six connections.
MOST_CLIENTS: Final = 64

# How long a client may take to send its request and to read the answer.
CLIENT_SECONDS: Final = 3.0

_PIECE_BYTES: Final = 65_536


async def refuse_requests(listening: ListeningSocket, text: str) -> None:
    """Answer each request with 503 and a text, until cancelled.

    Args:
        listening: the socket, which stays open.
        text: of the answer, without a line end.
    """
    acceptor = trio.socket.from_stdlib_socket(listening.socket)
    places = trio.Semaphore(MOST_CLIENTS)

    async def refuse(connection: trio.socket.SocketType) -> None:
        try:
            await _refuse(connection, text)
        finally:
            places.release()

    async with trio.open_nursery() as nursery:
        while True:
            await places.acquire()
            connection, _ = await acceptor.accept()
            nursery.start_soon(refuse, connection)


async def _refuse(connection: trio.socket.SocketType, text: str) -> None:
    # OSError: the client has left before its turn, so Nginx has closed the connection.
    with connection, contextlib.suppress(OSError), trio.move_on_after(CLIENT_SECONDS):
        method = "HEAD" if HEAD_VAR in await connection.recv(_PIECE_BYTES) else "GET"
        await connection.send(answers.not_running(text, method).data)
        connection.shutdown(socket.SHUT_WR)
        # To close with unread input, such as an upload, would reset the connection, and Nginx would lose the answer.
        while await connection.recv(_PIECE_BYTES):
            pass
