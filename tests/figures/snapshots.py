"""A service as tests describe it."""

from __future__ import annotations

from typing import Any

from uwsgibridge.figures.snapshot import Backlog, Snapshot, WorkerSnapshot


def worker(number: int = 1, state: str = "ready", **other: Any) -> WorkerSnapshot:
    """Make a worker."""
    values: dict[str, Any] = {"pid": 100 + number, "started_at": 1000.5, "capacity": 8, **other}
    return WorkerSnapshot(number=number, state=state, **values)


def service(*workers: WorkerSnapshot, **other: Any) -> Snapshot:
    """Make a service with these workers."""
    values: dict[str, Any] = {
        "version": "1.2",
        "accelerator": "in use",
        "pid": 99,
        "started_at": 900.25,
        "state": "running",
        "mounts": ["/"],
        "workers_wanted": len(workers),
        "backlogs": [Backlog(address="unix:/run/app.sock", waiting=3)],
        "backlog_most": 2048,
        **other,
    }
    return Snapshot(workers=workers, **values)
