"""Ends an application that goes on sending after its client has left.

Frameworks wait for ``http.disconnect`` while they send an answer. Then they cancel the answer, and do their work for
the end of a request. For their sake, `send` does nothing at first after the client has left, as in the specification
before HTTP 2.4: an exception from `send` would come first, and Django, for one, would skip that work.

An application that does not wait for the disconnect would send for ever. So messages are dropped silently for a
while only. Then `send` raises an `OSError` (HTTP 2.4, "Disconnected Client"), and finally the task is cancelled.
Other tasks run meanwhile, so that an application that only sends blocks nobody.

A WebSocket has the same where its application asks `receive`, which tells the end. Its task is not cancelled.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

from uwsgibridge.connection.sending import PeerGone
from uwsgibridge.loop.interface import Loop

# How many messages are dropped before other tasks run. A framework cancels its stream as soon as its listening task
# runs. That cancellation should reach the application's generator, which it closes, and not `send`.
_MESSAGES_IN_A_ROW: Final = 16


class Unheard:
    """Drops what an application sends after its client has left; made at the first such message.

    Args:
        loop: the event loop that the application runs on.
        quiet_seconds: how long messages are dropped silently. For as long again, each message raises. Then
            the task is cancelled.
    """

    __slots__ = ("_count", "_loop", "_quiet_seconds", "_since")

    def __init__(self, loop: Loop, quiet_seconds: float) -> None:
        self._loop = loop
        self._quiet_seconds = quiet_seconds
        self._since = monotonic()
        self._count = 0

    async def drop(self, cancel: Callable[[], None]) -> None:
        """Drop a message.

        Args:
            cancel: cancels the task. It is not kept: a reference back to the exchange would keep that
                until the garbage collector runs.

        Raises:
            PeerGone: messages have been dropped for longer than `quiet_seconds`. It is an OSError, which
                ends applications that stream for ever.
        """
        seconds = monotonic() - self._since
        self._count += 1
        if seconds >= self._quiet_seconds or not self._count % _MESSAGES_IN_A_ROW:
            await self._loop.checkpoint()
        if seconds < self._quiet_seconds:
            return
        if seconds >= 2 * self._quiet_seconds:
            cancel()
        raise PeerGone("the client has gone away")
