"""How one exchange with an application ends: its connection once, and its place in the table last.

The place is free when the application is done and its connection is somebody else's: one that can't be
closed yet holds no place, or clients that stall would take all there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from uwsgibridge.connection.connection import Connection
from uwsgibridge.connection.lingering import LingeringClose
from uwsgibridge.hosts.exchange_states import FOLLOWING, Delivery, Life, Step, follow
from uwsgibridge.protocol.answers import OwnAnswer
from uwsgibridge.protocol.response import Buffer, Response
from uwsgibridge.telemetry.reporting import Reporter

# Names of our own: to look a member up in its class costs more.
_RUNNING: Final = Life.RUNNING
_ENDED: Final = Life.ENDED
_OVER: Final = Life.OVER
_AFTER_END: Final = FOLLOWING[Step.END]


class EndingContext(Protocol):
    """What an exchange needs of its host for its end."""

    @property
    def lingering(self) -> LingeringClose:
        """Ends connections."""

    @property
    def reporter(self) -> Reporter:
        """Writes the access log."""

    @property
    def release(self) -> Callable[[Connection], None]:
        """Called when the exchange is over."""


def answer_instead(ending: EndingContext, connection: Connection, answer: OwnAnswer) -> None:
    """Answer a request that no exchange has begun for, and release it.

    Args:
        ending: the host's part; its reporter gave the answer.
        connection: with its request; ended here.
        answer: what the client gets.
    """
    try:
        is_sent = connection.send(answer.data) == len(answer.data)
    except OSError:  # nobody is there any more
        is_sent = False
        connection.force_close()
    else:
        ending.lingering.close(connection)
    ending.reporter.answered(
        connection.request, answer, accepted_at=connection.accepted_at, is_sent=is_sent
    )
    ending.release(connection)


class Exchange:
    """The base of every exchange; it owns the connection until `_end`.

    Args:
        ending: the host's part.
        connection: with its request.
    """

    # On the class: what most requests never change costs them nothing.
    _delivery = Delivery.OPEN
    # A flag beside the states: what has left stays with the client, whatever comes then. The access log asks.
    _has_written = False
    _unsent_bytes = 0  # of that
    _failure_status = 0  # of the answer that was sent in the application's place
    _failure_bytes = 0  # of its body

    def __init__(self, ending: EndingContext, connection: Connection) -> None:
        self._life = _RUNNING  # here, since each exchange changes it and asks it often
        self.connection = connection
        self.request = connection.request
        self._ending = ending

    def _end(self, *, complete: bool) -> None:
        """Close the connection after a complete answer, break it after any other; once."""
        if self._life in _AFTER_END:
            self._life = _AFTER_END[self._life]
            self._hand_over(self.connection, complete=complete)

    def _hand_over(self, connection: Connection, *, complete: bool) -> None:
        """Leave the connection to who ends it, now or when that is possible."""
        lingering = self._ending.lingering
        if complete:
            lingering.close(connection)
        else:
            lingering.abort(connection, is_seen=self._is_seen_to_be_cut())

    def _is_seen_to_be_cut(self) -> bool:
        """Whether a plain close says already that the answer is incomplete."""
        return False

    @property
    def _ended(self) -> bool:
        """Whether the connection is somebody else's; code that each request runs asks `_life` instead."""
        return self._life not in _AFTER_END

    def _return(self) -> None:
        """Take it that the application is done; once."""
        # An application may go on long after its answer (background tasks, close()): it still counts.
        if self._life is _ENDED:
            self._life = _OVER
            self._release()
        else:
            self._life = follow(Step.RETURN, self._life)

    def _release(self) -> None:
        """Give the place back, as the exchange is over; called once."""
        self._ending.release(self.connection)

    def _record_unsent(self, buffers: tuple[Buffer, ...], failed: Buffer) -> None:
        """Take note of what could not be written: `failed`, if not counted yet, and what was behind it."""
        if self._delivery is Delivery.OPEN:
            self._delivery = Delivery.CUT
        if not self._unsent_bytes:
            self._unsent_bytes = len(failed)
        if failed is buffers[0]:
            self._unsent_bytes += sum(map(len, buffers[1:]))

    def _record_failure_answer(self, answer: OwnAnswer) -> None:
        """Take note of what was sent in the application's place."""
        self._failure_status = answer.status
        self._failure_bytes = answer.body_bytes

    def _log_access(self, response: Response, started_at: float) -> None:
        """Write what has left, which may be less than the application gave."""
        failure_status = self._failure_status
        self._ending.reporter.over(
            self.request,
            status=failure_status or (response.status if self._has_written else 0),
            body_bytes=self._failure_bytes or max(0, response.body_bytes - self._unsent_bytes),
            complete=failure_status > 0 or (response.complete and self._delivery is Delivery.OPEN),
            accepted_at=self.connection.accepted_at,
            started_at=started_at,
        )
