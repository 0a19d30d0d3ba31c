"""Makes families of the state of a service: its processes, their memory, and what waits for them."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from typing import Final

from uwsgibridge.figures.family import Family, Kind, Labels, Sample
from uwsgibridge.figures.snapshot import (
    WORKER_STATES,
    Snapshot,
    WorkerSnapshot,
    held_by_mount,
)

# What workers hold of each mount.
_HELD: Final = {
    "in_flight": ("uwsgibridge_requests_in_flight", "Requests that workers hold."),
    "busy": (
        "uwsgibridge_requests_running",
        "Requests that run: of a WSGI application, the threads that are busy.",
    ),
    "places": (
        "uwsgibridge_request_places",
        "How many requests can run at once: of a WSGI application, its threads.",
    ),
    "websockets": ("uwsgibridge_websockets_open", "Open WebSockets."),
}


def state_families(snapshot: Snapshot) -> list[Family]:
    """Make the families of a service's state.

    Args:
        snapshot: of the service.

    Returns:
        A family for each figure, also where there is no sample of it now.
    """
    return [
        Family(
            "uwsgibridge_build",
            Kind.INFO,
            "The version of the bridge, whether its accelerator is in use, and the version of Python.",
            [
                Sample(
                    (
                        ("version", snapshot.version),
                        ("accelerator", snapshot.accelerator),
                        ("python", platform.python_version()),
                    ),
                    1,
                )
            ],
        ),
        _gauge(
            "uwsgibridge_start_time_seconds",
            "When the service was started, in seconds since 1970; an upgrade in place changes nothing.",
            [((), snapshot.started_at)],
            unit="seconds",
        ),
        _gauge(
            "uwsgibridge_workers",
            "Workers by state: starting, ready, busy (as many requests as it can run at once), stuck (no answer to its "
            "supervisor), stopping, ended.",
            [((("state", it),), snapshot.workers_in(it)) for it in WORKER_STATES],
        ),
        _gauge(
            "uwsgibridge_workers_wanted",
            "How many workers should run.",
            [((), snapshot.workers_wanted)],
        ),
        _gauge(
            "uwsgibridge_backlog_connections",
            "Connections that the kernel has taken and nobody has accepted yet.",
            [
                ((("address", it.address),), it.waiting)
                for it in snapshot.backlogs
                if it.waiting is not None
            ],
        ),
        _gauge(
            "uwsgibridge_worker_resident_bytes",
            "Memory of a worker in RAM, what it shares with others included.",
            _by_worker(snapshot.workers, lambda it: it.rss_bytes),
            unit="bytes",
        ),
        _gauge(
            "uwsgibridge_worker_proportional_bytes",
            "Memory of a worker in RAM; of what it shares, the part that falls to it.",
            _by_worker(snapshot.workers, lambda it: it.pss_bytes),
            unit="bytes",
        ),
        _gauge(
            "uwsgibridge_worker_open_files",
            "Open files of a worker, with its sockets.",
            _by_worker(snapshot.workers, lambda it: it.open_files),
        ),
        *(
            _gauge(
                name,
                text,
                [
                    ((("mount", label),), count)
                    for label, count in sorted(held_by_mount(snapshot.workers, what).items())
                ],
            )
            for what, (name, text) in _HELD.items()
        ),
    ]


def _gauge(
    name: str, text: str, values: Iterable[tuple[Labels, float]], *, unit: str = ""
) -> Family:
    return Family(name, Kind.GAUGE, text, [Sample(labels, it) for labels, it in values], unit)


def _by_worker(
    workers: Iterable[WorkerSnapshot], figure: Callable[[WorkerSnapshot], int | None]
) -> list[tuple[Labels, float]]:
    """List a figure by the workers' numbers, where it is known."""
    figures: dict[int, int] = {}
    for worker in workers:
        value = figure(worker)
        if value is not None:
            # While a worker drains, its successor may have the same number: a series has one value.
            figures[worker.number] = figures.get(worker.number, 0) + value
    return [((("worker", str(number)),), value) for number, value in sorted(figures.items())]
