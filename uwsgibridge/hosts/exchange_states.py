"""The states of an exchange, and which step is allowed in which of them.

An exchange has two ends that come in either order: that of its connection, and that of its application.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class Life(Enum):
    """How far an exchange has come.

    Attributes:
        RUNNING: the application runs, and the exchange owns the connection.
        REPLACED: an answer is given in the application's place. Nothing of the application's leaves.
        ENDED: the connection is somebody else's. The application may go on, with work after its answer.
        RETURNED: the application is done. The connection waits for its end: a closing handshake.
        OVER: both have ended, so the exchange holds no place any more.
    """

    RUNNING = auto()
    REPLACED = auto()
    ENDED = auto()
    RETURNED = auto()
    OVER = auto()

    # Enum's own hash is computed in Python, which shows on the request path.
    __hash__ = object.__hash__


class Step(Enum):
    """What happens to an exchange.

    Attributes:
        REPLACE: it begins an answer in the application's place.
        END: it gives its connection away.
        RETURN: its application is done.
    """

    REPLACE = auto()
    END = auto()
    RETURN = auto()


# By step, then by the state in which it is taken: the state that follows.
FOLLOWING: Final[dict[Step, dict[Life, Life]]] = {
    Step.REPLACE: {Life.RUNNING: Life.REPLACED},
    Step.END: {Life.RUNNING: Life.ENDED, Life.REPLACED: Life.ENDED, Life.RETURNED: Life.OVER},
    Step.RETURN: {Life.RUNNING: Life.RETURNED, Life.REPLACED: Life.RETURNED, Life.ENDED: Life.OVER},
}


def follow(step: Step, life: Life) -> Life:
    """Give the state that a step leads to.

    Raises:
        AssertionError: the step is not allowed in this state, which is a bug of ours.
    """
    following = FOLLOWING[step].get(life)
    if following is None:
        raise AssertionError(f"{step} is not allowed in {life}")
    return following


class Delivery(Enum):
    """What has become of the answer on its way to the client.

    Attributes:
        OPEN: all that was written so far has left.
        CUT: something could not be written. The client has left, or nobody has said why.
        STALLED: something could not be written, since the frontend took nothing for as long as it may.
    """

    OPEN = auto()
    CUT = auto()
    STALLED = auto()
