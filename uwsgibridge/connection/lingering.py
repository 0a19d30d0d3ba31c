"""Ends connections whose input has not arrived completely.

A close with unread input resets the connection, and the frontend loses the part of the answer that it has not read.
So the input is discarded first, within a bound. Nginx calls that a lingering close.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, TypeAlias

from uwsgibridge.connection.connection import Connection
from uwsgibridge.loop.interface import Loop

# How long a connection that has to be reset waits for input. An earlier close would say that the answer is
# complete. Nginx itself ends the connection after uwsgi_read_timeout (60 s by default); other peers may never do.
_ABORT_SECONDS: Final = 600.0

_End: TypeAlias = Callable[[Connection], Awaitable[None]]


class LingeringClose:
    """Closes connections, at once where that is possible; callable from any thread.

    Args:
        loop: the event loop, which waits.
        seconds: how long the input of one connection is discarded before the connection is cut off.
        most: how many connections may be waited for at a time; further ones are cut off at once.
        idle: called on the loop when no connection is waited for any more.
    """

    def __init__(
        self, loop: Loop, seconds: float, *, most: int, idle: Callable[[], None] = lambda: None
    ) -> None:
        self._loop = loop
        self._seconds = seconds
        self._most = most
        self._idle = idle
        # Any thread changes this, under the interpreter's own lock.
        self._closing: set[Connection] = set()

    @property
    def connections(self) -> list[Connection]:
        """List the connections that are waited for."""
        return list(self._closing)

    @property
    def is_idle(self) -> bool:
        """Whether no connection is waited for."""
        return not self._closing

    def close(self, connection: Connection) -> None:
        """Close a connection so that the peer reads the whole answer."""
        if not connection.close():
            self._spawn(self._discard, connection)

    def abort(self, connection: Connection, *, is_seen: bool = False) -> None:
        """Break a connection so that the peer sees that the answer is incomplete.

        Args:
            connection: of an incomplete answer.
            is_seen: whether a plain close shows that, too, as with a Content-Length.
        """
        if not connection.abort():
            if is_seen:
                connection.force_close()
            else:
                self._spawn(self._abort_later, connection)

    def discard(
        self, connection: Connection, closed: Callable[[Connection], None] | None = None
    ) -> None:
        """Close a connection with an unknown amount of input, as after a refusal.

        Args:
            connection: a connection whose answer was sent.
            closed: called when the connection is closed.
        """
        self._spawn(self._discard, connection, closed)

    def _spawn(
        self, end: _End, connection: Connection, closed: Callable[[Connection], None] | None = None
    ) -> None:
        if len(self._closing) >= self._most:
            connection.force_close()
            if closed is not None:
                closed(connection)
            return
        is_started = False

        async def run() -> None:
            try:
                await end(connection)
            finally:
                connection.force_close()
                self._closing.discard(connection)
                if closed is not None:
                    closed(connection)
                if not self._closing:
                    self._idle()

        def start() -> None:
            nonlocal is_started
            if not is_started:
                is_started = True
                connection.closing_task = self._loop.spawn(run)

        try:
            # Added here and not in `start`, so that a drain that looks meanwhile sees the connection.
            self._closing.add(connection)
            self._loop.run_threadsafe(start)
        except BaseException:
            # An exception from outside, as in a thread over its deadline. If it comes between the two steps,
            # nothing else would ever remove the connection. If it comes after both, the loop will.
            if not is_started:
                self._closing.add(connection)
                self._loop.run_threadsafe(start)
            raise

    async def _discard(self, connection: Connection) -> None:
        deadline = monotonic() + self._seconds
        connection.shutdown_write()
        while (left := deadline - monotonic()) > 0:
            try:
                if connection.discard_input():
                    return
            except BlockingIOError:
                await self._loop.wait_readable(connection, left)
            else:
                await self._loop.checkpoint()

    async def _abort_later(self, connection: Connection) -> None:
        # With unread input, the close will be a reset. The wait also ends when the peer closes.
        await self._loop.wait_readable(connection, _ABORT_SECONDS)
