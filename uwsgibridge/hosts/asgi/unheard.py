"""How an application is ended after its client has left.

Frameworks wait for ``http.disconnect`` beside their answer, then cancel what they run and do their work
at the end of a request. For them `send` does nothing any more, as the specification had it before HTTP
2.4: an exception from `send` would come first, and Django, for one, would leave out that work.

An application that waits for nothing would send for ever. So what nobody hears is taken for a while
alone; then `send` raises an `OSError` (HTTP 2.4, "Disconnected Client"), and at last the task is
cancelled. Other tasks run in between, so an application that does nothing but send blocks nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

from uwsgibridge.connection.connection import PeerGone
from uwsgibridge.loop.interface import Loop

# So many messages are taken before other tasks run. A framework cancels its stream as soon as its listener
# runs, and that is better met in the application's generator, which is closed by it, than in `send`.
_MESSAGES_IN_A_ROW: Final = 16


class Unheard:
    """Drops what an application sends after its client has left; made at the first such message.

    Args:
        loop: where the application runs.
        quiet_seconds: how long messages are dropped silently. For as long again, each one raises; then the
            task is cancelled.
    """

    __slots__ = ("_count", "_loop", "_quiet_seconds", "_since")

    def __init__(self, loop: Loop, quiet_seconds: float) -> None:
        self._loop = loop
        self._quiet_seconds = quiet_seconds
        self._since = monotonic()
        self._count = 0

    async def take(self, cancel: Callable[[], None]) -> None:
        """Take a message.

        Args:
            cancel: cancels the task. It is not kept: an exchange that is held by what it holds stays
                until the garbage collector comes.

        Raises:
            PeerGone: for longer than `quiet_seconds` nobody has heard what is sent. An OSError, so
                that applications which stream for ever come to an end.
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
