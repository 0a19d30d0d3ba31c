"""The counts of a supervisor over all workers, including those that have ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from uwsgibridge.link.figures import Figures


@dataclass(slots=True)
class Tally:
    """Counts since the start, which go on through upgrades.

    Attributes:
        crashed: workers that ended without being asked to.
        recycled: workers that were replaced at a limit.
        requests, app_errors, client_gone, refused: of workers that have ended, as of `Figures`.
    """

    crashed: int = 0
    recycled: int = 0
    requests: int = 0
    app_errors: int = 0
    client_gone: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def of_heritage(told: Mapping[str, Any]) -> Tally:
        """Go on with the counts of the program before, which may be of another version."""
        known = {one.name for one in dataclasses.fields(Tally)}
        return Tally(**{name: value for name, value in told.items() if name in known})

    def add(self, figures: Figures) -> None:
        """Add the counts of a worker."""
        self.requests += figures.requests
        self.app_errors += figures.app_errors
        self.client_gone += figures.client_gone
        for reason, count in figures.refused.items():
            self.refused[reason] = self.refused.get(reason, 0) + count

    def with_workers(self, figures: Iterable[Figures]) -> Tally:
        """Give another tally, with the counts of workers that have not ended."""
        whole = dataclasses.replace(self, refused=dict(self.refused))
        for one in figures:
            whole.add(one)
        return whole
