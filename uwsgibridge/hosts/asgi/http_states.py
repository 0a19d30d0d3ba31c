"""The states of an HTTP exchange that its application notices: those of the request's body, and of a stream."""

from __future__ import annotations

from enum import Enum, auto


class Input(Enum):
    """How much of the request's body the application has received.

    Attributes:
        ARRIVING: the application has not received the whole body.
        WHOLE: the application has the whole body, and `receive` waits for the client to leave.
        STALLED: the body did not arrive in time. The application is told that its client has left.
    """

    ARRIVING = auto()
    WHOLE = auto()
    STALLED = auto()


class Stream(Enum):
    """Whether a stop of the server has to end an answer.

    Attributes:
        NONE: the answer is not known to be a stream.
        OPEN: the answer is a stream, which is told when it has to end.
        TOLD: the stream has to end. `receive` gives the disconnect, and `send` goes on.
    """

    NONE = auto()
    OPEN = auto()
    TOLD = auto()
