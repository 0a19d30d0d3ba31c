"""Ending a connection whose input has not all arrived.

A close with unread input resets the connection, and the end of an answer that the frontend has not
read is lost. So the input is discarded first, within a bound: nginx calls the same thing a lingering
close.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, TypeAlias

from uwsgibridge.connection.connection import Connection
from uwsgibridge.loop.interface import Loop

# To close earlier would say that the answer is complete. Nginx gives up after uwsgi_read_timeout, 60 s
# where it is not set; this is only for a peer that never does.
_ABORT_SECONDS: Final = 600.0

_End: TypeAlias = Callable[[Connection], Awaitable[None]]


class LingeringClose:
    """Closes connections, at once where that is possible; callable from any thread.

    Args:
        loop: where the waiting happens.
        seconds: how long the input of one connection is discarded before it is cut off.
        most: how many may be waited for at a time; those beyond are cut off at once.
        idle: called, on the loop, when none is waited for any more.
    """

    def __init__(
        self, loop: Loop, seconds: float, *, most: int, idle: Callable[[], None] = lambda: None
    ) -> None:
        self._loop = loop
        self._seconds = seconds
        self._most = most
        self._idle = idle
        # By any thread, under the interpreter's own lock.
        self._closing: set[Connection] = set()

    @property
    def connections(self) -> list[Connection]:
        """List what is waited for."""
        return list(self._closing)

    @property
    def is_idle(self) -> bool:
        """Whether no connection is waited for."""
        return not self._closing

    def close(self, connection: Connection) -> None:
        """Close so that the peer reads the whole answer."""
        if not connection.close():
            self._spawn(self._discard, connection)

    def abort(self, connection: Connection, *, is_seen: bool = False) -> None:
        """Break the connection so that the peer sees it.

        Args:
            connection: of an answer that is not complete.
            is_seen: whether the peer sees it by a plain close as well, as with a Content-Length that
                was promised.
        """
        if not connection.abort():
            if is_seen:
                connection.force_close()
            else:
                self._spawn(self._abort_later, connection)

    def discard(
        self, connection: Connection, closed: Callable[[Connection], None] | None = None
    ) -> None:
        """Close where it is not known how much input is to come, as after a refusal.

        Args:
            connection: whose answer was sent.
            closed: called when that is done.
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
            # Here, not in `start`: a drain that looks meanwhile is not to take this for over.
            self._closing.add(connection)
            self._loop.run_threadsafe(start)
        except BaseException:
            # From outside, as to a thread over its deadline. It may have come between the two, and then
            # nothing would ever take the connection out again; or after both.
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
        # Until something arrives with which the close is a reset, or the peer itself gives up.
        await self._loop.wait_readable(connection, _ABORT_SECONDS)
