"""Logs the end of a worker that nobody had asked to end: how it ended, and which requests it held."""

from __future__ import annotations

import signal
from typing import Any, Final

from uwsgibridge.supervisor.worker_process import WorkerProcess
from uwsgibridge.telemetry.logs import Logger

# How many of the requests that a crashed worker held are named in the log.
_NAMED_FLIGHTS: Final = 10

# The supervisor has not killed it.
_OUT_OF_MEMORY: Final = (
    "SIGKILL that nobody has sent is the kernel's, out of memory (dmesg, or memory.events of the cgroup): give it more memory or fewer "
    "workers; --max-rss-bytes replaces a worker before it gets that large"
)


def report_crash(logger: Logger, worker: WorkerProcess, status: int | None) -> None:
    """Log the end of a worker, with the requests that it held.

    Args:
        logger: where the event goes.
        worker: the worker that has ended.
        status: as `describe_end` takes it.
    """
    how = describe_end(status)
    held = worker.held()
    if held.requests:
        how["held"] = [f"{it.method} {it.path}" for it in held.requests[:_NAMED_FLIGHTS]]
    if len(held.requests) > _NAMED_FLIGHTS:
        how["held_more"] = len(held.requests) - _NAMED_FLIGHTS
    if held.connections:
        # Accepted connections that have sent no request yet.
        how["held_connections"] = held.connections
    if status == -signal.SIGKILL and not (worker.is_being_killed or worker.is_stopping):
        how["hint"] = _OUT_OF_MEMORY
    logger.error(
        "worker ended",
        worker=worker.pid,
        was_ready=worker.is_ready,
        age_seconds=round(worker.age_seconds, 3),
        **how,
    )


def describe_end(status: int | None) -> dict[str, Any]:
    """Give the fields of a log event that tell how a process has ended.

    Args:
        status: as `os.waitstatus_to_exitcode` gives it; None where it is not known.
    """
    if status is None or status >= 0:
        return {"exit_status": status}
    try:
        return {"signal": signal.Signals(-status).name}
    except ValueError:  # most real-time signals have no name in Python
        return {"signal": -status}
