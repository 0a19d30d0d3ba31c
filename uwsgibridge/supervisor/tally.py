"""The counts of a supervisor over all workers, including those that have ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Final

from uwsgibridge.figures.families import APP_ERROR, CLIENT_GONE, REFUSAL, SLOW
from uwsgibridge.figures.totals import Totals
from uwsgibridge.link.figures import Figures
from uwsgibridge.quick_dataclass import dataclass

_NO_BOUNDS: Final = ()


@dataclass(slots=True)
class Tally:
    """Counts since the start, which go on through upgrades.

    Attributes:
        crashed: workers that ended without being asked to, but for those of code that does not load in a reload.
        recycled: workers that were replaced at a limit.
        requests, app_errors, client_gone, slow_requests, refused: of workers that have ended, as of `Figures`.
        counted: what these workers have counted in their memory, and what the supervisor counts itself.
    """

    crashed: int = 0
    recycled: int = 0
    requests: int = 0
    app_errors: int = 0
    client_gone: int = 0
    slow_requests: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    counted: Totals = field(default_factory=lambda: Totals(_NO_BOUNDS), compare=False)

    @staticmethod
    def of_heritage(told: Mapping[str, Any], bounds: Sequence[float] = ()) -> Tally:
        """Go on with the counts of the program before, which may be of another version.

        Args:
            told: what `bequeath` has given.
            bounds: of the histograms, from now on.
        """
        known = {one.name for one in dataclasses.fields(Tally)} - {"counted"}
        return Tally(
            **{name: value for name, value in told.items() if name in known},
            counted=Totals.of_heritage(told.get("counted", {}), bounds),
        )

    def bequeath(self) -> dict[str, Any]:
        """Give everything as JSON can have it."""
        return {**self.describe(), "counted": self.counted.bequeath()}

    def describe(self) -> dict[str, Any]:
        """Give the counts for `status`."""
        return {
            it.name: getattr(self, it.name)
            for it in dataclasses.fields(self)
            if it.name != "counted"
        }

    def add_ended(self, figures: Figures | None, memory: memoryview | None) -> None:
        """Add the counts of a worker that has ended.

        Args:
            figures: that it has told last.
            memory: in which it has counted, which knows more than that; None of an older version.
        """
        own = Totals(self.counted.bounds)
        if memory is not None:
            own.add_memory(memory, has_ended=True)
            self.counted.add(own)
        if own.mounts:
            self.add(
                Figures(
                    requests=own.arrived,
                    app_errors=own.named.get(APP_ERROR, 0),
                    client_gone=own.named.get(CLIENT_GONE, 0),
                    slow_requests=own.named.get(SLOW, 0),
                    refused=own.by_reason(REFUSAL),
                )
            )
        elif figures is not None:
            self.add(figures)

    def add(self, figures: Figures) -> None:
        """Add the counts of a worker."""
        self.requests += figures.requests
        self.app_errors += figures.app_errors
        self.client_gone += figures.client_gone
        self.slow_requests += figures.slow_requests
        for reason, count in figures.refused.items():
            self.refused[reason] = self.refused.get(reason, 0) + count

    def with_workers(self, figures: Iterable[Figures]) -> Tally:
        """Give another tally, with the counts of workers that have not ended."""
        whole = dataclasses.replace(self, refused=dict(self.refused))
        for one in figures:
            whole.add(one)
        return whole
