"""What a host tells of a request in flight: how far it is, and which thread or task has it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from uwsgibridge.quick_dataclass import dataclass

if TYPE_CHECKING:
    import threading

    from uwsgibridge.connection.connection import Connection
    from uwsgibridge.loop.interface import Task


class Phase(StrEnum):
    """How far a request is; the values are what an operator reads.

    Attributes:
        QUEUED: it waits for a thread.
        APPLICATION: the application runs, and no part of the answer was sent.
        READING_BODY: the application waits for the client to send the body.
        SENDING: a part of the answer was sent.
        AFTER_ANSWER: the answer is complete, and the application still works.
        WEBSOCKET: it is a WebSocket.
        GIVEN_UP: its client has an answer, while its thread or task still runs.
    """

    QUEUED = "queued"
    APPLICATION = "application"
    READING_BODY = "reading body"
    SENDING = "sending"
    AFTER_ANSWER = "after answer"
    WEBSOCKET = "websocket"
    GIVEN_UP = "given up"


@dataclass(frozen=True, slots=True, eq=False)
class Underway:
    """A request in flight.

    Attributes:
        connection: its connection.
        phase: how far it is.
        began_at: when the application was called, of `time.monotonic()`; None where it was not, or where that is not
            known apart from when the connection was accepted.
        thread: that runs it; None for a task, and for a request that waits.
        task: of the event loop that runs it; None for a thread, and for a request that waits.
        is_open_ended: whether it is meant to last, as a WebSocket and a stream of events are.
    """

    connection: Connection
    phase: Phase
    began_at: float | None = None
    thread: threading.Thread | None = None
    task: Task | None = None
    is_open_ended: bool = False
