"""What a worker counts."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Counts of events since the worker's start; each event is counted where it happens.

    Attributes:
        requests: well-formed requests, including those that no application got (404, 503).
        refused: requests that were refused, broken off or over a deadline, by reason; an application may
            have seen some of them.
        client_gone: requests whose client went away before the answer's end.
        app_errors: requests in which the application failed.
    """

    requests: int = 0
    client_gone: int = 0
    app_errors: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    def count_refusal(self, reason: str) -> None:
        """Count one refusal under its reason."""
        self.refused[reason] = self.refused.get(reason, 0) + 1
