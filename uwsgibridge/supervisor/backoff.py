"""How soon a worker that has ended is replaced: at once, unless one after the other ends right away."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

# A worker that ends sooner than this after it was ready has had a short life.
_SHORT_LIFE_SECONDS: Final = 1.0

# So many short lives in a row are chance yet, or an operator's doing.
_SHORT_LIVES_FORGIVEN: Final = 5

_FIRST_PAUSE_SECONDS: Final = 0.1
_MAX_PAUSE_SECONDS: Final = 10.0


class Backoff:
    """Decides on the pauses before workers of one generation are replaced; it has no clock of its own.

    - After workers that ended before they were ready, and after the sixth short life in a row, there is
      a pause, which doubles each time.
    - The first kind is over when all workers are ready. The second is over when a worker that became
      ready after the last short life has lived longer, or has ended after a longer life.

    Attributes:
        reason: why the next worker is to wait, a phrase for the log; empty where it is not to.
    """

    def __init__(self) -> None:
        self.reason = ""
        self._pause_seconds = 0.0
        self._short_lives = 0
        self._last_at = 0.0

    def record_failed_start(self) -> None:
        """Record a worker that ended before it was ready."""
        self.reason = "workers end before they are ready"

    def record_crash(self, lived_seconds: float, others: Iterable[float], now: float) -> None:
        """Record a worker that was ready, and ended without being asked to.

        Args:
            lived_seconds: since it was ready.
            others: the same of each worker that is ready now.
            now: in seconds, of a clock that never goes back.
        """
        since = now - self._last_at
        lives = [lived_seconds, *(it for it in others if it < since)]
        if max(lives) >= _SHORT_LIFE_SECONDS:
            self._begin_anew()
        if lived_seconds < _SHORT_LIFE_SECONDS:
            self._short_lives += 1
            self._last_at = now
        if self._short_lives > _SHORT_LIVES_FORGIVEN:
            self.reason = (
                f"{self._short_lives} workers in a row ended within {_SHORT_LIFE_SECONDS:g} s "
                "of being ready"
            )

    def reset_if_stable(self) -> None:
        """Take note that no worker is missing."""
        if self._short_lives <= _SHORT_LIVES_FORGIVEN:
            self._pause_seconds = 0.0

    def start_pause(self) -> float:
        """Return the seconds to wait now, and clear `reason`; the pause after this one is twice as long."""
        self.reason = ""
        self._pause_seconds = min(
            max(_FIRST_PAUSE_SECONDS, 2 * self._pause_seconds), _MAX_PAUSE_SECONDS
        )
        return self._pause_seconds

    def _begin_anew(self) -> None:
        self.reason = ""
        self._pause_seconds = 0.0
        self._short_lives = 0
