"""The states of an ASGI application's WebSocket, and what it may send in which (ASGI, "WebSocket").

The form is that of h11's ``_state.py``: one table has the allowed messages, and all others are refused by it.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from uwsgibridge.connection.connection import PeerGone
from uwsgibridge.protocol.errors import InvalidResponse


class State(Enum):
    """How far a WebSocket has come.

    Attributes:
        CONNECTING: the handshake is not answered.
        OPEN: it was accepted.
        DENYING: an HTTP answer in place of the handshake is on its way.
        CLOSED: the client, the server or an answer has ended it.
        CLOSED_BY_APPLICATION: the application has closed it after it was accepted.
    """

    CONNECTING = auto()
    OPEN = auto()
    DENYING = auto()
    CLOSED = auto()
    CLOSED_BY_APPLICATION = auto()

    # Enum's own hash is computed in Python, and each message is looked up.
    __hash__ = object.__hash__

    @property
    def is_closed(self) -> bool:
        """Whether nothing of the application's leaves any more."""
        return self in _CLOSED


_CLOSED: Final = frozenset({State.CLOSED, State.CLOSED_BY_APPLICATION})

# By state, then by the type of an application's message: the state that follows.
FOLLOWING: Final[dict[State, dict[str, State]]] = {
    State.CONNECTING: {
        "websocket.accept": State.OPEN,
        "websocket.close": State.CLOSED,
        "websocket.http.response.start": State.DENYING,
    },
    State.OPEN: {
        "websocket.send": State.OPEN,
        "websocket.close": State.CLOSED_BY_APPLICATION,
    },
    State.DENYING: {
        "websocket.http.response.body": State.DENYING
    },  # CLOSED, when it is the last one
    State.CLOSED: {},
    State.CLOSED_BY_APPLICATION: {},
}

# Who ended a WebSocket first has ended it: what comes then changes nothing.
AFTER_END: Final[dict[State, State]] = {
    State.CONNECTING: State.CLOSED,
    State.OPEN: State.CLOSED,
    State.DENYING: State.CLOSED,
    State.CLOSED: State.CLOSED,
    State.CLOSED_BY_APPLICATION: State.CLOSED_BY_APPLICATION,
}

# What an application may send when the WebSocket is closed without having broken a rule: the close may have
# come a moment before (ASGI, "Disconnected Client").
_TOO_LATE: Final = frozenset({"websocket.send", "websocket.close"})


def refusal(state: State, kind: str) -> PeerGone | InvalidResponse:
    """Make the error of a message that `FOLLOWING` does not allow.

    Args:
        state: of the WebSocket.
        kind: the type of the message.
    """
    if state.is_closed and kind in _TOO_LATE:
        return PeerGone("the WebSocket is closed")
    name = "closed" if state.is_closed else state.name.lower()
    return InvalidResponse(f"{kind!r} is not expected while {name}")


class Reading(Enum):
    """Whether the client's frames are read.

    Attributes:
        FLOWING: as they arrive.
        SUSPENDED: not until there is room for them.
        OVER: never again. The client has closed, and the connection ends when all has been sent to it.
    """

    FLOWING = auto()
    SUSPENDED = auto()
    OVER = auto()
