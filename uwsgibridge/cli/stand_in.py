"""Answers in the place of a bridge that does not run, on the listening socket that it would have."""

from __future__ import annotations

import contextlib
import socket
from typing import Final

import trio

from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.protocol import answers
from uwsgibridge.protocol.packet import HEAD_VAR

# So many are answered at a time; others wait in the backlog. A browser opens six connections.
MOST_CLIENTS: Final = 64

# How long a client may take for its request, and to read the answer.
CLIENT_SECONDS: Final = 3.0

_PIECE_BYTES: Final = 65_536


async def refuse_requests(listening: ListeningSocket, text: str) -> None:
    """Answer each request with 503 and a text, until cancelled.

    Args:
        listening: stays open.
        text: one sentence or more, without a line end.
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
    # A client may have left before its turn: Nginx has closed then.
    with connection, contextlib.suppress(OSError), trio.move_on_after(CLIENT_SECONDS):
        method = "HEAD" if HEAD_VAR in await connection.recv(_PIECE_BYTES) else "GET"
        await connection.send(answers.not_running(text, method).data)
        connection.shutdown(socket.SHUT_WR)
        # A close with unread input, as of an upload, would reset the connection, and the answer with it.
        while await connection.recv(_PIECE_BYTES):
            pass
