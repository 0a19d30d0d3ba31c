"""The states of an answer in the making, and which step is allowed in which of them.

The form is that of h11's ``_state.py``: one table has the allowed steps, and all others are refused by it.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from uwsgibridge.protocol.errors import InvalidResponse


class State(Enum):
    """How far an answer has come.

    Attributes:
        NO_HEAD: the application has said nothing.
        HEAD: there is a head that has not left. Another one may replace it.
        BODY: the head has left, and more of the body may follow.
        COMPLETE: all of the answer has left.
    """

    NO_HEAD = auto()
    HEAD = auto()
    BODY = auto()
    COMPLETE = auto()

    # Enum's own hash is computed in Python, which shows on the request path.
    __hash__ = object.__hash__


class Step(Enum):
    """What an application does with its answer.

    Attributes:
        START: it gives status and headers.
        PIECE: it gives a piece of the body, after which more may come.
        LAST: it gives the last piece.
    """

    START = auto()
    PIECE = auto()
    LAST = auto()


class Body(Enum):
    """What becomes of the body that an application gives.

    Attributes:
        SENT: it is sent.
        MEASURED: its length is told, since the request is HEAD (RFC 9110, section 9.3.2).
        NONE: the status has no body: 204 and 304 (RFC 9110, sections 15.3.5 and 15.4.5).
        ELSEWHERE: Nginx sends a file in its place.
    """

    SENT = auto()
    MEASURED = auto()
    NONE = auto()
    ELSEWHERE = auto()


# By step, then by the state in which it is taken: the state that follows.
FOLLOWING: Final[dict[Step, dict[State, State]]] = {
    Step.START: {State.NO_HEAD: State.HEAD, State.HEAD: State.HEAD},
    Step.PIECE: {State.HEAD: State.BODY, State.BODY: State.BODY},
    Step.LAST: {State.HEAD: State.COMPLETE, State.BODY: State.COMPLETE},
}

# Why a step that is not in the table is refused.
_REFUSALS: Final[dict[Step, dict[State, str]]] = {
    Step.START: {
        State.BODY: "the head of this response was already sent",
        State.COMPLETE: "the head of this response was already sent",
    },
    Step.PIECE: {
        State.NO_HEAD: "the body began before the head",
        State.COMPLETE: "the response was already complete",
    },
    Step.LAST: {
        State.NO_HEAD: "the body began before the head",
        State.COMPLETE: "the response was already complete",
    },
}


def refusal(step: Step, state: State) -> InvalidResponse:
    """Make the error of a step that `FOLLOWING` does not allow."""
    return InvalidResponse(_REFUSALS[step][state])
