"""A service at one moment: what its processes are and hold. Families and uWSGI's statistics are made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from uwsgibridge.config.mounts import parse_mount
from uwsgibridge.figures.totals import Totals

# The states of a worker, as ``ctl status`` has them.
WORKER_STATES: Final = ("starting", "ready", "busy", "stuck", "stopping", "ended")

# Those in which a worker takes requests.
SERVING_STATES: Final = frozenset({"ready", "busy"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSnapshot:
    """A worker.

    Attributes:
        number: from 1; a worker that replaces another one in its place has the number of that.
        pid: of its process.
        state: one of `WORKER_STATES`.
        started_at: when it was started, in seconds since 1970.
        starts: how many workers have had this number, this one included.
        requests, app_errors, client_gone, refused: since its start, as of `uwsgibridge.link.figures.Figures`.
        in_flight, capacity, websockets: as of `Figures`.
        application_seconds: the time that requests have taken in the application, until their answers began.
        sent_bytes: of bodies of answers.
        mounts: as of `Figures`.
        rss_bytes, pss_bytes, size_bytes, open_files, cpu_seconds: of its process; None where that is not known.
    """

    number: int
    pid: int
    state: str
    started_at: float
    starts: int = 1
    requests: int = 0
    app_errors: int = 0
    client_gone: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    in_flight: int = 0
    capacity: int = 0
    websockets: int = 0
    application_seconds: float = 0.0
    sent_bytes: int = 0
    mounts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    rss_bytes: int | None = None
    pss_bytes: int | None = None
    open_files: int | None = None
    size_bytes: int | None = None
    cpu_seconds: float | None = None

    def with_counts(self, totals: Totals) -> WorkerSnapshot:
        """Make another one, with what the worker has counted."""
        mounts = totals.mounts.values()
        return replace(
            self,
            application_seconds=sum(it.times["application"].seconds for it in mounts),
            sent_bytes=sum(it.sent_bytes for it in mounts),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """The backlog of a listening socket.

    Attributes:
        address: where the socket listens.
        waiting: connections in it; None where that is not known.
    """

    address: str
    waiting: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A service.

    Attributes:
        version, accelerator: of the bridge.
        pid: of the supervisor, or of the one process.
        started_at: when the service was started, in seconds since 1970.
        state: ``starting``, ``running``, ``reloading``, ``draining`` or ``stopping``.
        mounts: the prefixes of the applications; the root is ``/``.
        workers_wanted: how many workers should run.
        workers: those that run, by number.
        backlogs: of the listening sockets.
        backlog_most: how many connections a backlog may hold.
    """

    version: str
    accelerator: str
    pid: int
    started_at: float
    state: str
    mounts: Sequence[str]
    workers_wanted: int
    workers: Sequence[WorkerSnapshot]
    backlogs: Sequence[Backlog]
    backlog_most: int

    def health(self) -> tuple[bool, str]:
        """Tell whether requests are served, and say why, or why not, in a sentence."""
        if self.state == "stopping":
            return False, "stopping: no new requests are accepted"
        if self.state == "draining":
            return False, "draining: requests are still answered, and the service stops soon"
        serving = sum(it.state in SERVING_STATES for it in self.workers)
        if serving:
            return True, f"{self.state}: {serving} of {self.workers_wanted} workers serve"
        counted = [
            f"{count} {state}" for state in WORKER_STATES if (count := self.workers_in(state))
        ]
        return False, f"no worker serves: {', '.join(counted) or 'there is none'}"

    def workers_in(self, state: str) -> int:
        """Count the workers in a state."""
        return sum(it.state == state for it in self.workers)


def held_by_mount(workers: Iterable[WorkerSnapshot], what: str) -> dict[str, int]:
    """Sum up over workers what each mount holds.

    Args:
        workers: of a service.
        what: ``in_flight``, ``busy``, ``places`` or ``websockets``.

    Returns:
        By the label of the mount.
    """
    held: dict[str, int] = {}
    for worker in workers:
        for label, figures in worker.mounts.items():
            held[label] = held.get(label, 0) + figures.get(what, 0)
    return held


def mounts_of(app_name: str | None, mounts: Sequence[str]) -> list[str]:
    """List the prefixes at which applications are.

    Args:
        app_name: the application at the root, if there is one.
        mounts: the values of ``--mount``.

    Returns:
        The prefixes; the root is ``/``.
    """
    prefixes = ["/"] if app_name else []
    return prefixes + [parse_mount(it)[0] or "/" for it in mounts]
