"""Decides which worker to replace, and why: for its number of requests, its age or its memory.

Each worker has limits of its own, which are drawn by chance at its start. So workers that started together are not
replaced together.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from uwsgibridge.config.settings import Settings
from uwsgibridge.quick_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """The limits of one worker; 0 is no limit.

    Attributes:
        requests: how many requests the worker may get.
        lifetime_seconds: how old the worker may get.
    """

    requests: int
    lifetime_seconds: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A worker that is due to be replaced.

    Attributes:
        pid: of its process.
        due_since: since when the worker is due, by any clock that all candidates share.
    """

    pid: int
    due_since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecyclingPolicy:
    """Decides which workers are over a limit; the attributes are the options of the same names.

    A worker over a soft limit is replaced: a new worker comes first, then the old one drains. This happens to one
    worker at a time. A worker over the hard limit of memory is killed at once. 0 switches a limit off. Memory is
    the resident set, which includes pages shared with other workers.

    Attributes:
        max_requests: after how many requests a worker is replaced.
        max_requests_jitter: how many requests chance adds to that at the most.
        worker_lifetime_seconds: at which age a worker is replaced.
        worker_lifetime_jitter_seconds: how many seconds chance adds to that at the most.
        max_rss_bytes: with more memory, a worker is replaced.
        max_rss_hard_bytes: with more memory, a worker is killed.
        chance: draws the jitter.
    """

    max_requests: int = 0
    max_requests_jitter: int = 0
    worker_lifetime_seconds: float = 0.0
    worker_lifetime_jitter_seconds: float = 0.0
    max_rss_bytes: int = 0
    max_rss_hard_bytes: int = 0
    chance: random.Random

    def limits_for_new_worker(self) -> WorkerLimits:
        """Draw the limits of a new worker."""
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
            requests: how many requests the worker has got.
            age_seconds: the time since the worker's start.
            rss_bytes: the worker's memory; None where it is not known.

        Returns:
            A phrase for the log that names the option; None where the worker is within its limits.
        """
        if limits.requests and requests >= limits.requests:
            return f"{requests:,} requests (--max-requests)"
        if limits.lifetime_seconds and age_seconds >= limits.lifetime_seconds:
            return f"{age_seconds:,.0f} s old (--worker-lifetime-seconds)"
        return _memory(rss_bytes, self.max_rss_bytes, "--max-rss-bytes")

    def reason_to_kill(self, rss_bytes: int | None) -> str | None:
        """Tell why a worker is to be killed at once.

        Args:
            rss_bytes: the worker's memory; None where it is not known.

        Returns:
            A phrase for the log that names the option; None where the worker is within the limit.
        """
        return _memory(rss_bytes, self.max_rss_hard_bytes, "--max-rss-hard-bytes")

    @staticmethod
    def choose(candidates: Iterable[Candidate]) -> int | None:
        """Choose the worker to replace next; call this only while no worker is being replaced.

        Returns:
            The pid of the candidate that has been due for longest; None where there is no candidate.
        """
        longest = min(candidates, key=lambda it: (it.due_since, it.pid), default=None)
        return None if longest is None else longest.pid


def _memory(rss_bytes: int | None, limit_bytes: int, option: str) -> str | None:
    if limit_bytes and rss_bytes is not None and rss_bytes > limit_bytes:
        return f"{rss_bytes:,} bytes of memory ({option})"
    return None


def recycling_policy(settings: Settings) -> RecyclingPolicy:
    """Make the policy that the options describe."""
    return RecyclingPolicy(
        max_requests=settings.max_requests,
        max_requests_jitter=settings.max_requests_jitter,
        worker_lifetime_seconds=settings.worker_lifetime_seconds,
        worker_lifetime_jitter_seconds=settings.worker_lifetime_jitter_seconds,
        max_rss_bytes=settings.max_rss_bytes,
        max_rss_hard_bytes=settings.max_rss_hard_bytes,
        chance=random.Random(),  # noqa: S311 - it spreads work, and keeps no secret
    )
