"""The states of an exchange, and which step is allowed in which of them.

The connection of an exchange and its application end in either order.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class Life(Enum):
    """How far an exchange has come.

    Attributes:
        RUNNING: the application runs, and the exchange owns the connection.
        REPLACED: an answer is sent in the application's place. Nothing from the application is sent any more.
        ENDED: the exchange has given the connection away. The application may still work after its answer.
        RETURNED: the application is done. The connection waits for its end, which is a closing handshake.
        OVER: both have ended, so that the exchange holds no place any more.
    """

    RUNNING = auto()
    REPLACED = auto()
    ENDED = auto()
    RETURNED = auto()
    OVER = auto()

    # The hash of Enum is computed in Python, which would cost each request time.
    __hash__ = object.__hash__


class Step(Enum):
    """What happens to an exchange.

    Attributes:
        REPLACE: the exchange begins an answer in the application's place.
        END: the exchange gives its connection away.
        RETURN: the application is done.
    """

    REPLACE = auto()
    END = auto()
    RETURN = auto()


# For each step, and each state in which the step is allowed: the state that follows.
FOLLOWING: Final[dict[Step, dict[Life, Life]]] = {
    Step.REPLACE: {Life.RUNNING: Life.REPLACED},
    Step.END: {Life.RUNNING: Life.ENDED, Life.REPLACED: Life.ENDED, Life.RETURNED: Life.OVER},
    Step.RETURN: {Life.RUNNING: Life.RETURNED, Life.REPLACED: Life.RETURNED, Life.ENDED: Life.OVER},
}


def follow(step: Step, life: Life) -> Life:
    """Give the state that a step leads to.

    Raises:
        AssertionError: the step is not allowed in this state, which is a defect of the bridge.
    """
    following = FOLLOWING[step]
    if life not in following:
        raise AssertionError(f"{step} is not allowed in {life}")
    return following[life]


class Delivery(Enum):
    """Whether the answer could be written so far.

    Attributes:
        OPEN: everything could be written.
        CUT: a part could not be written, because the client has left or for an unknown reason.
        STALLED: a part could not be written, because the frontend has taken nothing for too long.
    """

    OPEN = auto()
    CUT = auto()
    STALLED = auto()
