"""The states of an ASGI application's WebSocket, and what it may send in which (ASGI, "WebSocket").

The form is that of h11's ``_state.py``: a table has the allowed messages, and all other messages are refused.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from uwsgibridge.connection.sending import PeerGone
from uwsgibridge.protocol.errors import InvalidResponse


class State(Enum):
    """How far a WebSocket has come.

    Attributes:
        CONNECTING: the handshake is not answered.
        OPEN: the application has accepted the WebSocket.
        DENYING: the application is sending an HTTP answer in place of the handshake.
        CLOSED: the client, the server or an answer has ended the WebSocket.
        CLOSED_BY_APPLICATION: the application has closed the WebSocket after it had accepted it.
    """

    CONNECTING = auto()
    OPEN = auto()
    DENYING = auto()
    CLOSED = auto()
    CLOSED_BY_APPLICATION = auto()

    # The hash of Enum is computed in Python, which would cost each message time.
    __hash__ = object.__hash__

    @property
    def is_closed(self) -> bool:
        """Whether nothing from the application is sent any more."""
        return self in _CLOSED


_CLOSED: Final = frozenset({State.CLOSED, State.CLOSED_BY_APPLICATION})

# For each state, and each type of an allowed message of the application: the state that follows.
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
    State.DENYING: {"websocket.http.response.body": State.DENYING},  # CLOSED after the last one
    State.CLOSED: {},
    State.CLOSED_BY_APPLICATION: {},
}

# The state after an end by client or server. Whoever ended the WebSocket first has ended it.
AFTER_END: Final[dict[State, State]] = {
    State.CONNECTING: State.CLOSED,
    State.OPEN: State.CLOSED,
    State.DENYING: State.CLOSED,
    State.CLOSED: State.CLOSED,
    State.CLOSED_BY_APPLICATION: State.CLOSED_BY_APPLICATION,
}

# Messages that break no rule on a closed WebSocket, because the close may have come a moment before (ASGI,
# "Disconnected Client").
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
        FLOWING: frames are read as they arrive.
        SUSPENDED: frames are not read until there is room for them.
        OVER: frames are never read again. The client has closed, and the connection ends when all was sent.
    """

    FLOWING = auto()
    SUSPENDED = auto()
    OVER = auto()
