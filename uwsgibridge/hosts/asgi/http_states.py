"""The states of an HTTP exchange that its application can see: of the request's body, and of a stream."""

from __future__ import annotations

from enum import Enum, auto


class Input(Enum):
    """How far the request's body has come.

    Attributes:
        ARRIVING: more of it is to come, or nobody has asked.
        WHOLE: the application has all of it, and waits for its client to leave.
        STALLED: it did not arrive in time. The application is told that its client has left.
    """

    ARRIVING = auto()
    WHOLE = auto()
    STALLED = auto()


class Stream(Enum):
    """Whether an answer is one that a stop of the server has to end.

    Attributes:
        NONE: it is not known to go on.
        OPEN: it goes on, and is told when it is to end.
        TOLD: it is to end. `receive` gives the disconnect, and `send` goes on.
    """

    NONE = auto()
    OPEN = auto()
    TOLD = auto()
