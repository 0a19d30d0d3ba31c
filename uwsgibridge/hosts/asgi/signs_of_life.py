"""The signs of life of a WebSocket's client since the last ping."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class Sign(Enum):
    """What is known of a client.

    Attributes:
        UNHEARD: the client never sent a byte, and its frontend may be one that can't carry WebSockets.
        UNHEARD_PINGED: as UNHEARD, and the client has taken nothing since the last ping.
        HEARD: the client has sent or taken something since the last ping.
        PINGED: the client has neither sent nor taken anything since the last ping.
    """

    UNHEARD = auto()
    UNHEARD_PINGED = auto()
    HEARD = auto()
    PINGED = auto()

    @property
    def is_unheard(self) -> bool:
        """Whether the client never sent a byte."""
        return self in _UNHEARD

    @property
    def is_missing(self) -> bool:
        """Whether the client has neither sent nor taken anything since the last ping."""
        return self in _MISSING


class Step(Enum):
    """What can happen, beside that the client sends something.

    Attributes:
        TAKEN: the client has taken bytes for which there was no room before, so that somebody reads.
        PING: a ping is sent to the client.
    """

    TAKEN = auto()
    PING = auto()


_UNHEARD: Final = frozenset({Sign.UNHEARD, Sign.UNHEARD_PINGED})
_MISSING: Final = frozenset({Sign.UNHEARD_PINGED, Sign.PINGED})

# For each step, and each state: the state that follows. Bytes from the client lead to HEARD from each state. A ping
# may follow another one without a sign of life, where the client's frames are not read because the queue is full.
FOLLOWING: Final[dict[Step, dict[Sign, Sign]]] = {
    Step.TAKEN: {
        Sign.UNHEARD: Sign.UNHEARD,
        Sign.UNHEARD_PINGED: Sign.UNHEARD,
        Sign.HEARD: Sign.HEARD,
        Sign.PINGED: Sign.HEARD,
    },
    Step.PING: {
        Sign.UNHEARD: Sign.UNHEARD_PINGED,
        Sign.UNHEARD_PINGED: Sign.UNHEARD_PINGED,
        Sign.HEARD: Sign.PINGED,
        Sign.PINGED: Sign.PINGED,
    },
}


def seconds_to_ping(sign: Sign, ping_seconds: float, first_sign_seconds: float) -> float:
    """Tell when the next ping is due; before the first sign of life, early enough for an answer in time.

    Args:
        sign: what is known of the client.
        ping_seconds: the time between pings; 0 for no pings.
        first_sign_seconds: how long the first sign of life may take; 0 for no limit.

    Returns:
        Seconds from now; 0 where no ping is due.
    """
    if not sign.is_unheard or not first_sign_seconds:
        return ping_seconds
    soon = first_sign_seconds / 2
    return min(ping_seconds, soon) if ping_seconds else soon
