"""The phases of a supervisor's life, and which phase may follow which."""

from __future__ import annotations

import enum
from typing import Final


class Phase(enum.Enum):
    """A phase of a supervisor's life.

    Attributes:
        SERVING: the number of workers is kept up; reloads and upgrades may begin.
        DRAIN_DELAY: a stop was asked for, and all goes on for ``--drain-delay-seconds``; no upgrade begins.
        UPGRADING: another program is taking the process over; no worker, reload or upgrade begins.
        STOPPING: all workers drain for good.
        HURRYING: the drain is cut short; running requests are broken off.
    """

    SERVING = enum.auto()
    DRAIN_DELAY = enum.auto()
    UPGRADING = enum.auto()
    STOPPING = enum.auto()
    HURRYING = enum.auto()

    def follow(self, following: Phase) -> Phase:
        """Check that a phase may follow this one, and give that phase.

        Raises:
            AssertionError: it may not.
        """
        assert following in _FOLLOWING[self], f"{following} can't follow {self}"
        return following


_FOLLOWING: Final[dict[Phase, frozenset[Phase]]] = {
    Phase.SERVING: frozenset({Phase.UPGRADING, Phase.DRAIN_DELAY, Phase.STOPPING}),
    Phase.DRAIN_DELAY: frozenset({Phase.STOPPING}),
    # A stop that comes at the last moment wins.
    Phase.UPGRADING: frozenset({Phase.STOPPING}),
    Phase.STOPPING: frozenset({Phase.HURRYING}),
    Phase.HURRYING: frozenset({Phase.HURRYING}),
}
