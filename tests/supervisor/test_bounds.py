"""The number of workers that a fleet begins with, where its bounds allow another one than was asked for."""

from __future__ import annotations

import pytest
import structlog

from uwsgibridge.config.settings import Settings
from uwsgibridge.supervisor.fleet import Fleet
from uwsgibridge.system.systemd import Notifier


@pytest.mark.parametrize(
    ("least", "most", "begun", "reason"),
    [
        (5, 0, 5, "--workers 2 is below --workers-min 5"),
        (0, 1, 1, "--workers 2 is above --workers-max 1"),
        (1, 4, 2, None),
        (2, 0, 2, None),
        (0, 0, 2, None),
    ],
)
def test_workers_outside_the_bounds_are_told(
    least: int, most: int, begun: int, reason: str | None
) -> None:
    settings = Settings(workers=2, workers_min=least, workers_max=most)
    with structlog.testing.capture_logs() as events:
        fleet = Fleet(settings, structlog.get_logger(), [], Notifier(None))
    assert fleet.wanted == begun
    told = [(it["event"], it["workers"], it["reason"]) for it in events]
    assert told == (
        [("--workers is out of bounds: the nearer bound is used", begun, reason)] if reason else []
    )
