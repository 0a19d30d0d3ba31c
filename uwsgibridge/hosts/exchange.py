"""How one exchange with an application ends: its connection once, and its place in the table last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from uwsgibridge.connection import Connection
from uwsgibridge.hosts.lingering import LingeringClose


class EndingContext(Protocol):
    """What an exchange needs of its host for its end."""

    @property
    def lingering(self) -> LingeringClose:
        """Ends connections."""

    @property
    def release(self) -> Callable[[Connection], None]:
        """Called when the exchange is over."""


class Exchange:
    """The base of every exchange; it owns the connection until `_end`.

    Args:
        ending: the host's part.
        connection: with its request.
    """

    # On the class: what most requests never change costs them nothing.
    _ended = False  # the connection is not ours any more
    _closed = False  # and is closed
    _returned = False  # the application is done

    def __init__(self, ending: EndingContext, connection: Connection) -> None:
        self.connection = connection
        self.request = connection.request
        self._ending = ending

    def _end(self, *, complete: bool) -> None:
        """Close the connection after a complete answer, break it after any other; once."""
        if not self._ended:
            self._ended = True
            lingering = self._ending.lingering
            end = lingering.close if complete else lingering.abort
            if end(self.connection, self._connection_closed):
                self._closed = True

    def _connection_closed(self, _: Connection) -> None:
        self._closed = True
        self._release_when_over()

    def _release_when_over(self) -> None:
        # An application may go on long after its answer (background tasks, close()): it still counts.
        if self._closed and self._returned:
            self._ending.release(self.connection)
