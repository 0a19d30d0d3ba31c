"""Which worker is to be replaced, and why: after a number of requests, with age, or for its memory.

Each worker has limits of its own, drawn when it starts, so that workers that started together do not
end together.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What one worker may come to; 0 is no limit.

    Attributes:
        requests: how many requests it answers.
        lifetime_seconds: how old it gets.
    """

    requests: int
    lifetime_seconds: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A worker that there is a reason to recycle.

    Attributes:
        pid: of its process.
        due_since: when the reason was first there, by any clock that all candidates share.
    """

    pid: int
    due_since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecyclingPolicy:
    """Decides which workers have had their time; the options of these names say when.

    A worker over a soft limit is replaced: the new one comes first, then the old one drains, one
    worker of a pool at a time. One over the hard limit of memory is killed, whatever it is doing. Each
    limit is off at 0. Memory is the resident set, pages shared with other workers included.

    Attributes:
        max_requests: of a worker.
        max_requests_jitter: the most that chance adds to it.
        worker_lifetime_seconds: of a worker.
        worker_lifetime_jitter_seconds: the most that chance adds to it.
        max_rss_bytes: above it a worker is replaced.
        max_rss_hard_bytes: above it a worker is killed.
        chance: where jitter is drawn from.
    """

    max_requests: int = 0
    max_requests_jitter: int = 0
    worker_lifetime_seconds: float = 0.0
    worker_lifetime_jitter_seconds: float = 0.0
    max_rss_bytes: int = 0
    max_rss_hard_bytes: int = 0
    chance: random.Random

    def limits_for_new_worker(self) -> WorkerLimits:
        """Draw the limits of a worker that starts."""
        requests, lifetime_seconds = self.max_requests, self.worker_lifetime_seconds
        if requests:
            requests += self.chance.randint(0, self.max_requests_jitter)
        if lifetime_seconds:
            lifetime_seconds += self.chance.uniform(0, self.worker_lifetime_jitter_seconds)
        return WorkerLimits(requests, lifetime_seconds)

    def reason_to_recycle(
        self,
        limits: WorkerLimits,
        *,
        requests: int,
        age_seconds: float,
        rss_bytes: int | None,
    ) -> str | None:
        """Tell why a worker is to be replaced.

        Args:
            limits: the worker's own.
            requests: how many it has answered.
            age_seconds: since it started.
            rss_bytes: its memory, where it is known.

        Returns:
            A phrase for the log that names the option, or None to let it go on.
        """
        if limits.requests and requests >= limits.requests:
            return f"{requests:,} requests (--max-requests)"
        if limits.lifetime_seconds and age_seconds >= limits.lifetime_seconds:
            return f"{age_seconds:,.0f} s old (--worker-lifetime-seconds)"
        return _memory(rss_bytes, self.max_rss_bytes, "--max-rss-bytes")

    def reason_to_kill(self, rss_bytes: int | None) -> str | None:
        """Tell why a worker is to be killed at once.

        Args:
            rss_bytes: its memory, where it is known.

        Returns:
            A phrase for the log that names the option, or None to let it live.
        """
        return _memory(rss_bytes, self.max_rss_hard_bytes, "--max-rss-hard-bytes")

    @staticmethod
    def choose(candidates: Iterable[Candidate]) -> int | None:
        """Pick the one worker that is replaced next; not to be asked while another one is.

        Returns:
            The pid of the one that has been due for longest, or None where there is no candidate.
        """
        longest = min(candidates, key=lambda it: (it.due_since, it.pid), default=None)
        return None if longest is None else longest.pid


def _memory(rss_bytes: int | None, limit_bytes: int, option: str) -> str | None:
    if limit_bytes and rss_bytes is not None and rss_bytes > limit_bytes:
        return f"{rss_bytes:,} bytes of memory ({option})"
    return None
