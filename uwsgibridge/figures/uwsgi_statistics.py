"""A service in the form of uWSGI's statistics: the JSON that its stats server gives (uwsgi_master_generate_stats of 2.0.31)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from uwsgibridge.figures.snapshot import SERVING_STATES, Snapshot, WorkerSnapshot

# uWSGI has a core for each request that a worker can run at once. An ASGI worker can run thousands.
MAX_CORES: Final = 64

_MICROSECONDS: Final = 1_000_000


def uwsgi_statistics(snapshot: Snapshot) -> dict[str, Any]:
    """Give what uWSGI's stats server would give of such a service.

    What has no counterpart here is 0, such as signals. A worker's requests stand at its first core, since nobody counts
    them by threads; as many cores are in a request as requests are in flight.

    Args:
        snapshot: of the service.

    Returns:
        An object that JSON can have.
    """
    waiting = sum(it.waiting or 0 for it in snapshot.backlogs)
    return {
        "version": f"uwsgibridge-{snapshot.version}",
        "listen_queue": waiting,
        "listen_queue_errors": 0,
        "signal_queue": 0,
        "load": waiting,
        "pid": snapshot.pid,
        "uid": os.getuid(),
        "gid": os.getgid(),
        "cwd": _directory(),
        "locks": [],
        "sockets": [
            {
                # uWSGI names a unix socket by its path alone.
                "name": it.address.removeprefix("unix:"),
                "proto": "uwsgi",
                "queue": it.waiting or 0,
                "max_queue": snapshot.backlog_most,
                "shared": 0,
                "can_offload": 0,
            }
            for it in snapshot.backlogs
        ],
        "workers": [_worker(it, snapshot.mounts) for it in _one_for_each_number(snapshot.workers)],
    }


def _one_for_each_number(workers: Iterable[WorkerSnapshot]) -> list[WorkerSnapshot]:
    """Leave out workers that drain, where another one has their number: uWSGI has one worker of a number."""
    chosen: dict[int, WorkerSnapshot] = {}
    for worker in sorted(workers, key=lambda it: (it.state in SERVING_STATES, it.started_at)):
        chosen[worker.number] = worker
    return sorted(chosen.values(), key=lambda it: it.number)


def _worker(worker: WorkerSnapshot, mounts: Iterable[str]) -> dict[str, Any]:
    running_microseconds = round(worker.application_seconds * _MICROSECONDS)
    return {
        "id": worker.number,
        "pid": worker.pid,
        "accepting": int(worker.state in SERVING_STATES),
        "requests": worker.requests,
        "delta_requests": worker.requests,
        "exceptions": worker.app_errors,
        "harakiri_count": worker.refused.get("request_timeout", 0),
        "signals": 0,
        "signal_queue": 0,
        "status": "busy" if worker.in_flight else "idle",
        "rss": worker.rss_bytes or 0,
        "vsz": worker.size_bytes or 0,
        "running_time": running_microseconds,
        "last_spawn": int(worker.started_at),
        "respawn_count": worker.starts,
        "tx": worker.sent_bytes,
        "avg_rt": running_microseconds // worker.requests if worker.requests else 0,
        "apps": [
            {
                "id": number,
                "modifier1": 0,
                "mountpoint": mount.removesuffix("/"),
                "startup_time": 0,
                # By applications, nobody counts in a worker: those of several stand at the first one.
                "requests": 0 if number else worker.requests,
                "exceptions": 0 if number else worker.app_errors,
                "chdir": "",
            }
            for number, mount in enumerate(mounts)
        ],
        "cores": [
            {
                "id": number,
                "requests": 0 if number else worker.requests,
                "static_requests": 0,
                "routed_requests": 0,
                "offloaded_requests": 0,
                "write_errors": 0 if number else worker.client_gone,
                "read_errors": 0,
                "in_request": int(number < worker.in_flight),
                "vars": [],
                "req_info": {},
            }
            for number in range(min(max(worker.capacity, 1), MAX_CORES))
        ],
    }


def _directory() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed
        return ""
