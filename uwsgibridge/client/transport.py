"""Receives and sends on a connection that does not block; here without TLS."""

from __future__ import annotations

import selectors
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Transport:
    """A connection without TLS, as an `Exchange` uses it. The connection belongs to the caller.

    Attributes:
        connection: the socket, which is made non-blocking.
        receives_on: the event of `selectors` upon which it is worth while to receive.
        sends_on: the event upon which it is worth while to send.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.receives_on = selectors.EVENT_READ
        self.sends_on = selectors.EVENT_WRITE
        connection.setblocking(False)

    def has_received(self) -> bool:
        """Tell whether bytes are there that no selector shows."""
        return False

    def receive_into(self, buffer: WriteableBuffer) -> int | None:
        """Receive what is there: the number of bytes, 0 at the end, None where there is nothing yet.

        Raises:
            OSError: the connection is broken.
        """
        try:
            return self.connection.recv_into(buffer)
        except BlockingIOError:
            return None

    def send(self, data: memoryview) -> int | None:
        """Send the beginning of the data: the number of bytes, None where nothing can be sent yet.

        After None, the next call has to have the same data.

        Raises:
            BrokenPipeError, ConnectionResetError: the server receives nothing more. It may have sent an answer.
            OSError: the connection is broken in another way.
        """
        try:
            return self.connection.send(data)
        except BlockingIOError:
            return None
