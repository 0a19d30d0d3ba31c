"""Drops requests that nobody waits for as they arrive: their clients have left while they were in the backlog."""

from __future__ import annotations

import time
from typing import Final

from uwsgibridge.connection.connection import Connection
from uwsgibridge.hosts.turn import LOOK_SECONDS, LOOKS_AFTER_ONE, Turn
from uwsgibridge.protocol.sent import seconds_since_sent

# A request that was sent so shortly ago is run without a look at its client: as in `fast/leaving.h`.
_LOOK_AFTER_SENT_SECONDS: Final = 0.05


class Arrivals:
    """Looks at requests as they are accepted, where Python accepts; `fast/accepting.h` has the same.

    How long a request has waited in the backlog is known where the frontend says when it has sent it. One request in 5 ms
    is asked for that, and each one where the last one's client was gone.

    Args:
        turn: of the listener.
    """

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._look_at = 0.0
        self._looks_left = 0

    def drops(self, connection: Connection, *, is_due: bool) -> bool:
        """End a request whose client is gone; False where the client is there, as far as that was looked at.

        Args:
            connection: with its request.
            is_due: whether to ask this one for its age, as the accelerator may have done before it has left it to Python.
        """
        if connection.accepted_at < self._look_at and not (self._looks_left or is_due):
            return False
        self._look_at = connection.accepted_at + LOOK_SECONDS
        age = seconds_since_sent(connection.request.vars, time.time())
        if age is not None and age > _LOOK_AFTER_SENT_SECONDS and self._turn.drops(connection):
            self._looks_left = LOOKS_AFTER_ONE
            return True
        self._looks_left = max(0, self._looks_left - 1)
        return False
