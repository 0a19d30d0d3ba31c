"""Ends an exchange with an application: first its connection, and once; its place in the table last.

The place becomes free when the application is done and the exchange has given its connection away. A connection that
can't be closed yet holds no place: otherwise stalling clients would take all places.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, time
from typing import Final, Generic, Protocol, TypeVar

from uwsgibridge.connection.connection import Connection
from uwsgibridge.connection.lingering import LingeringClose
from uwsgibridge.figures.layout import outcome_of
from uwsgibridge.figures.memory import Recorders
from uwsgibridge.figures.recorder import UNKNOWN, Recorder
from uwsgibridge.hosts.exchange_states import FOLLOWING, Delivery, Life, Step, follow
from uwsgibridge.protocol.answers import OwnAnswer
from uwsgibridge.protocol.request import Request
from uwsgibridge.protocol.response import Buffer, Response
from uwsgibridge.protocol.sent import seconds_since_sent
from uwsgibridge.telemetry.reporting import Reporter

# Module names for members of enums: to look a member up in its class costs more.
_RUNNING: Final = Life.RUNNING
_ENDED: Final = Life.ENDED
_OVER: Final = Life.OVER
_STATE_AFTER_END: Final = FOLLOWING[Step.END]


class EndingContext(Protocol):
    """The part of a host's context that an exchange needs for its end."""

    @property
    def lingering(self) -> LingeringClose:
        """Ends connections."""

    @property
    def reporter(self) -> Reporter:
        """Writes the access log."""

    @property
    def recorders(self) -> Recorders:
        """Make what records requests."""

    @property
    def release(self) -> Callable[[Connection], None]:
        """Called when the exchange is over."""


def answer_instead(ending: EndingContext, connection: Connection, answer: OwnAnswer) -> None:
    """Answer a request that no exchange has begun for, and release it.

    Args:
        ending: the host's part; its reporter has made the answer.
        connection: the connection with its request; it is ended here.
        answer: the answer to send.
    """
    answer = ending.reporter.with_id(connection.request, answer)
    try:
        is_sent = connection.send(answer.data) == len(answer.data)
    except OSError:  # the client is gone
        is_sent = False
        connection.force_close()
    else:
        ending.lingering.close(connection)
    record_own_answer(ending.recorders.shared, connection, answer.status if is_sent else 0)
    ending.reporter.answered(
        connection.request, answer, accepted_at=connection.accepted_at, is_sent=is_sent
    )
    ending.release(connection)


def record_own_answer(recorder: Recorder, connection: Connection, status: int) -> None:
    """Record a request that was answered before an application was called.

    Args:
        recorder: of this thread.
        connection: with the request; or without one, where what arrived is none.
        status: of the answer; 0 where none was sent.
    """
    request: Request | None = getattr(connection, "request", None)
    total_seconds = monotonic() - connection.accepted_at
    frontend_seconds = UNKNOWN if request is None else _on_its_way(request, total_seconds)
    recorder.record(
        request.method if request is not None else "",
        outcome_of(status, is_complete=True),
        request.content_length if request is not None else 0,
        0,
        (frontend_seconds, UNKNOWN, UNKNOWN, UNKNOWN, total_seconds),
    )


def _on_its_way(request: Request, since_accepted: float) -> float:
    """Tell how long a request was on its way from the frontend; `UNKNOWN` where the frontend does not say it."""
    age = seconds_since_sent(request.vars, time())
    return UNKNOWN if age is None else max(0.0, age - since_accepted)


# What a host shares with its exchanges: of each kind of host another class.
_Context = TypeVar("_Context", bound=EndingContext)


class Exchange(Generic[_Context]):
    """The base of every exchange; it owns the connection until `_end`.

    Args:
        context: the host's part.
        connection: the connection with its request.
    """

    # Defaults on the class: a request that never changes them pays nothing for them.
    _delivery = Delivery.OPEN
    # A flag beside the states: whether any part of the answer was sent. The access log needs it.
    _has_written = False
    _unsent_bytes = 0  # bytes of the answer that could not be written
    _failure_status = 0  # of the answer that was sent in the application's place
    _failure_bytes = 0  # bytes of that answer's body
    _failure_head = b""
    # When the first byte of the answer was given to the kernel, of `time.monotonic()`; 0 before.
    _answer_began = 0.0

    _response: Response  # of an exchange with an application, or of one with a file

    def __init__(self, context: _Context, connection: Connection) -> None:
        # On the instance, since each exchange changes the state and reads it often.
        self._life = _RUNNING
        self.connection = connection
        self.request = connection.request
        self._context = context

    def _end(self, *, complete: bool) -> None:
        """Close the connection after a complete answer, or break it after an incomplete one; only once."""
        if self._life in _STATE_AFTER_END:
            self._life = _STATE_AFTER_END[self._life]
            if complete:
                self._expect_close()
            self._hand_over(self.connection, complete=complete)
            self._record_end(complete=complete)

    def _expect_close(self) -> None:
        """Prepare for the close of a complete answer; an exchange whose recorder takes marks makes them here."""

    def _record_end(self, *, complete: bool) -> None:
        """Record the request, whose answer has ended; called once, by who ends it."""
        raise NotImplementedError

    def _record(
        self, recorder: Recorder, response: Response, started_at: float, *, complete: bool
    ) -> None:
        """Record what was sent, as `_log_access` logs it.

        Args:
            recorder: of this thread.
            response: of the application, which may have been replaced.
            started_at: when the application was called.
            complete: whether the client has got the whole answer.
        """
        request, accepted_at, now = self.request, self.connection.accepted_at, monotonic()
        failure_status = self._failure_status
        status = failure_status or (response.status if self._has_written else 0)
        answer_began = self._answer_began or now
        recorder.record(
            request.method,
            outcome_of(status, is_complete=complete),
            request.content_length,
            self._failure_bytes or max(0, response.body_bytes - self._unsent_bytes),
            (
                _on_its_way(request, now - accepted_at),
                started_at - accepted_at,
                answer_began - started_at,
                now - answer_began if status else UNKNOWN,
                now - accepted_at,
            ),
        )

    def _expect_whole(self, recorder: Recorder, status: int) -> None:
        """Prepare for a call that sends the end of an answer, whose length the frontend knows.

        With the request read, the end of this process is no reset, which would take the answer away from the frontend
        that has not read it. So the answer is counted if and only if it was sent.

        Args:
            recorder: of this thread.
            status: of the answer.
        """
        connection = self.connection
        if connection.body_unseen:
            return
        try:
            connection.take_request()
        except OSError:  # the peer is gone: the call tells it
            return
        self._mark(recorder, status)

    def _mark(self, recorder: Recorder, status: int) -> None:
        recorder.mark(self.request.method, outcome_of(status, is_complete=True))

    def _hand_over(self, connection: Connection, *, complete: bool) -> None:
        """Give the connection to `LingeringClose`, which ends it as soon as possible."""
        lingering = self._context.lingering
        if complete:
            lingering.close(connection)
        else:
            lingering.abort(connection, is_seen=self._is_seen_to_be_cut())

    def _is_seen_to_be_cut(self) -> bool:
        """Whether a plain close shows the client that the answer is incomplete."""
        return False

    @property
    def _ended(self) -> bool:
        """Whether the exchange has given its connection away; code that each request runs asks `_life` instead."""
        return self._life not in _STATE_AFTER_END

    def _return(self) -> None:
        """Record that the application is done; only once."""
        # An application may go on long after its answer (background tasks, close()), and keeps its place then.
        if self._life is _ENDED:
            self._life = _OVER
            self._release()
        else:
            self._life = follow(Step.RETURN, self._life)

    def _release(self) -> None:
        """Free the place of the exchange, which is over; called once."""
        self._context.release(self.connection)

    def _record_unsent(self, buffers: tuple[Buffer, ...], failed: Buffer) -> None:
        """Count the bytes that could not be written: `failed`, if it is not counted yet, and the buffers after it."""
        if self._delivery is Delivery.OPEN:
            self._delivery = Delivery.CUT
        if not self._unsent_bytes:
            self._unsent_bytes = len(failed)
        if failed is buffers[0]:
            self._unsent_bytes += sum(map(len, buffers[1:]))

    def _record_failure_answer(self, answer: OwnAnswer) -> None:
        """Record the answer that was sent in the application's place."""
        self._failure_status = answer.status
        self._failure_bytes = answer.body_bytes
        self._failure_head = answer.sent_head()

    def sent_head(self) -> bytes:
        """Give the head of the answer, without its end; empty where none was sent."""
        response = self._response
        return self._failure_head or (response.head if self._has_written else b"")

    def _log_access(self, response: Response, started_at: float) -> None:
        """Log what was sent, which may be less than the application gave."""
        failure_status = self._failure_status
        self._context.reporter.log_access(
            self.request,
            status=failure_status or (response.status if self._has_written else 0),
            body_bytes=self._failure_bytes or max(0, response.body_bytes - self._unsent_bytes),
            complete=failure_status > 0
            or (response.is_complete and self._delivery is Delivery.OPEN),
            accepted_at=self.connection.accepted_at,
            started_at=started_at,
            answered=self,
        )
