"""The states of an answer, and which step is allowed in which of them.

The form is that of h11's ``_state.py``: a table has the allowed steps, and all other steps are refused.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from uwsgibridge.protocol.errors import InvalidResponse


class State(Enum):
    """How far an answer has come.

    Attributes:
        NO_HEAD: the application has given no head.
        HEAD: there is a head that has not been sent. Another one may replace it.
        BODY: the head was sent, and more of the body may follow.
        COMPLETE: the whole answer was sent.
    """

    NO_HEAD = auto()
    HEAD = auto()
    BODY = auto()
    COMPLETE = auto()

    # The hash of Enum is computed in Python, which would cost each request time.
    __hash__ = object.__hash__


class Step(Enum):
    """What an application does with its answer.

    Attributes:
        START: the application gives status and headers.
        PIECE: the application gives a piece of the body, after which more may come.
        LAST: the application gives the last piece.
    """

    START = auto()
    PIECE = auto()
    LAST = auto()


class Body(Enum):
    """How the body that an application gives is treated.

    Attributes:
        SENT: the body is sent.
        MEASURED: only its length is sent, since the request is HEAD (RFC 9110, section 9.3.2).
        NONE: the body is dropped, since the status is 204 or 304 (RFC 9110, sections 15.3.5 and 15.4.5).
        ELSEWHERE: the body is dropped, since Nginx sends a file in its place.
    """

    SENT = auto()
    MEASURED = auto()
    NONE = auto()
    ELSEWHERE = auto()


# For each step, and each state in which the step is allowed: the state that follows.
FOLLOWING: Final[dict[Step, dict[State, State]]] = {
    Step.START: {State.NO_HEAD: State.HEAD, State.HEAD: State.HEAD},
    Step.PIECE: {State.HEAD: State.BODY, State.BODY: State.BODY},
    Step.LAST: {State.HEAD: State.COMPLETE, State.BODY: State.COMPLETE},
}

# Applications of both interfaces get this text: an answer does not know which of them gives it.
_NO_HEAD: Final = "the body began before the head: first call start_response (WSGI), or send http.response.start (ASGI)"

# Why a step that is not in the table is refused.
_REFUSALS: Final[dict[Step, dict[State, str]]] = {
    Step.START: {
        State.BODY: "the head of this response was already sent",
        State.COMPLETE: "the head of this response was already sent",
    },
    Step.PIECE: {
        State.NO_HEAD: _NO_HEAD,
        State.COMPLETE: "the response was already complete",
    },
    Step.LAST: {
        State.NO_HEAD: _NO_HEAD,
        State.COMPLETE: "the response was already complete",
    },
}


def refusal(step: Step, state: State) -> InvalidResponse:
    """Make the error of a step that `FOLLOWING` does not allow."""
    return InvalidResponse(_REFUSALS[step][state])
