"""What a WebSocket's client has let hear of itself since the last ping."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class Sign(Enum):
    """What is known of a client.

    Attributes:
        UNHEARD: no byte of it ever came, and its frontend may be one that can't carry WebSockets.
        UNHEARD_PINGED: the same, and since the last ping it has not even taken anything.
        HEARD: it has sent something, or taken something since the last ping.
        PINGED: since the last ping it has neither sent nor taken anything.
    """

    UNHEARD = auto()
    UNHEARD_PINGED = auto()
    HEARD = auto()
    PINGED = auto()

    @property
    def is_unheard(self) -> bool:
        """Whether the client was never heard of."""
        return self in _UNHEARD

    @property
    def is_missing(self) -> bool:
        """Whether nothing has come or gone since the last ping."""
        return self in _MISSING


class Step(Enum):
    """What happens between a client and us, beside that it sends something.

    Attributes:
        TAKEN: it has taken something for which there was no room before, so somebody reads.
        PING: it is sent a ping.
    """

    TAKEN = auto()
    PING = auto()


_UNHEARD: Final = frozenset({Sign.UNHEARD, Sign.UNHEARD_PINGED})
_MISSING: Final = frozenset({Sign.UNHEARD_PINGED, Sign.PINGED})

# By step, then by what is known: what is known then. Bytes of the client lead to HEARD from each. A ping may follow one that nothing has come or gone
# since, where the client's frames are not read for want of room.
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
    """Tell when the next ping is due: before the first sign of life soon enough for an answer.

    Args:
        sign: what is known of the client.
        ping_seconds: between pings; 0 for none.
        first_sign_seconds: within which the first sign of life must come; 0 for no limit.

    Returns:
        Seconds from now; 0 where no ping is due.
    """
    if not sign.is_unheard or not first_sign_seconds:
        return ping_seconds
    soon = first_sign_seconds / 2
    return min(ping_seconds, soon) if ping_seconds else soon
