"""Ending a connection whose input has not all arrived.

A close with unread input resets the connection, and the end of an answer that the frontend has not
read is lost. So the input is discarded first, within a bound: nginx calls the same thing a lingering
close.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, TypeAlias

from uwsgibridge.connection import Connection
from uwsgibridge.hosts.loops import Loop

# To close earlier would say that the answer is complete. Nginx gives up after uwsgi_read_timeout, 60 s
# where it is not set; this is only for a peer that never does.
_ABORT_SECONDS: Final = 600.0

_Closed: TypeAlias = Callable[[Connection], None]
_End: TypeAlias = Callable[[Connection, _Closed], Awaitable[None]]


class LingeringClose:
    """Closes connections, at once where that is possible; callable from any thread.

    Args:
        loop: where the waiting happens.
        seconds: how long the input of one connection is discarded before it is cut off.
    """

    def __init__(self, loop: Loop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds

    def close(self, connection: Connection, closed: _Closed) -> bool:
        """Close so that the peer reads the whole answer.

        Returns:
            True when that is done; False when it takes longer, and `closed` is called at its end.
        """
        if connection.close():
            return True
        self._spawn(self._discard, connection, closed)
        return False

    def abort(self, connection: Connection, closed: _Closed) -> bool:
        """Break the connection so that the peer sees it; the rest as `close`."""
        if connection.abort():
            return True
        self._spawn(self._abort_later, connection, closed)
        return False

    def discard(self, connection: Connection, closed: _Closed) -> None:
        """Close after a refusal: how much input is to come is not known."""
        self._spawn(self._discard, connection, closed)

    def _spawn(self, end: _End, connection: Connection, closed: _Closed) -> None:
        def start() -> None:
            connection.closing_task = self._loop.spawn(end, connection, closed)

        self._loop.run_threadsafe(start)

    async def _discard(self, connection: Connection, closed: _Closed) -> None:
        deadline = monotonic() + self._seconds
        connection.shutdown_write()
        try:
            while (left := deadline - monotonic()) > 0:
                try:
                    if connection.discard_input():
                        return
                except BlockingIOError:
                    await self._loop.wait_readable(connection, left)
                else:
                    await self._loop.checkpoint()
        finally:
            connection.force_close()
            closed(connection)

    async def _abort_later(self, connection: Connection, closed: _Closed) -> None:
        # Until something arrives with which the close is a reset, or the peer itself gives up.
        try:
            await self._loop.wait_readable(connection, _ABORT_SECONDS)
        finally:
            connection.force_close()
            closed(connection)
