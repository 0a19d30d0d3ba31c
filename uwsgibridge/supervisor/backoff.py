"""Decides how soon to replace a worker or a sidecar that has ended: at once, unless they end right away."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

# A worker that ends sooner than this after it was ready has had a short life.
_SHORT_LIFE_SECONDS: Final = 1.0

# How many short lives in a row cause no pause: these may be chance, or an operator's doing.
_SHORT_LIVES_FORGIVEN: Final = 5

_FIRST_PAUSE_SECONDS: Final = 0.1
_MAX_PAUSE_SECONDS: Final = 10.0


class Backoff:
    """Decides on the pauses before workers of one generation are replaced; the caller gives the time.

    - There is a pause after a worker that ended before it was ready, and after the sixth short life in a row.
      Each pause is twice as long as the one before.
    - Pauses of the first kind end when all workers are ready. Those of the second kind end when a worker that
      became ready after the last short life has lived longer.

    Sidecars have no start that could fail by itself: a sidecar is ready when it was started.

    Args:
        short_life_seconds: who ends sooner than this after it was ready has had a short life.
        short_lives_forgiven: how many short lives in a row cause no pause.

    Attributes:
        reason: why the next worker has to wait, a phrase for the log; empty where it need not wait.
    """

    def __init__(
        self,
        *,
        short_life_seconds: float = _SHORT_LIFE_SECONDS,
        short_lives_forgiven: int = _SHORT_LIVES_FORGIVEN,
    ) -> None:
        self.reason = ""
        self._short_life_seconds = short_life_seconds
        self._short_lives_forgiven = short_lives_forgiven
        self._pause_seconds = 0.0
        self._short_lives = 0
        self._last_at = 0.0

    def record_failed_start(self) -> None:
        """Record a worker that ended before it was ready."""
        self.reason = "workers end before they are ready"

    def record_crash(self, lived_seconds: float, others: Iterable[float], now: float) -> None:
        """Record a worker that was ready, and ended without being asked to.

        Args:
            lived_seconds: how long the worker had been ready.
            others: how long each worker that is ready now has been so.
            now: in seconds, of a clock that never goes back.
        """
        since = now - self._last_at
        lives = [lived_seconds, *(it for it in others if it < since)]
        if max(lives) >= self._short_life_seconds:
            self._begin_anew()
        if lived_seconds < self._short_life_seconds:
            self._short_lives += 1
            self._last_at = now
        if self._short_lives > self._short_lives_forgiven:
            self.reason = (
                f"{self._short_lives} workers in a row ended within {self._short_life_seconds:g} s "
                "of being ready"
            )

    def reset_if_stable(self) -> None:
        """Begin again with short pauses, because no worker is missing."""
        if self._short_lives <= self._short_lives_forgiven:
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
