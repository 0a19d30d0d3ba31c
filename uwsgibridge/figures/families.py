"""Makes families of what workers have counted: their names are an interface, which docs/metrics.md describes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from uwsgibridge.figures.family import Family, Histogram, Kind, Labels, Sample
from uwsgibridge.figures.layout import CPU_MILLISECONDS
from uwsgibridge.figures.totals import HistogramSum, MountTotals, Totals

# What the named counters begin with that count by a reason.
REFUSAL: Final = "refusal/"
RESTART: Final = "restart/"
RELOAD: Final = "reload/"

# Named counters that have a family of their own.
CLIENT_GONE: Final = "client_gone"
APP_ERROR: Final = "app_error"
ABORTED: Final = "aborted"
SLOW: Final = "slow"

_TIMES: Final = {
    "frontend": "On the way from Nginx to the bridge: in Nginx's queue, and in the kernel's backlog.",
    "queue": "From the accept of a connection until the application was called.",
    "application": "From the call of the application until its answer began.",
    "send": "From the beginning of an answer to its end, with what the application took for that.",
    "total": "From the accept of a connection to the end of the answer.",
}


def counted_families(totals: Totals) -> list[Family]:
    """Make the families of all that workers have counted.

    Args:
        totals: over all workers.
    """
    mounts = sorted(totals.mounts.items())
    return [
        _by_mount(
            "uwsgibridge_requests",
            "Requests that are over, by their mount, method, and the class of the status: cut is an answer that was "
            "broken off, and none no answer.",
            (
                ((("mount", label), ("method", method), ("status", outcome)), count)
                for label, it in mounts
                for (method, outcome), count in sorted(it.requests.items())
            ),
        ),
        *(_request_times(name, text, mounts) for name, text in _TIMES.items()),
        _by_mount(
            "uwsgibridge_received_bytes",
            "Bodies of requests.",
            (((("mount", label),), it.received_bytes) for label, it in mounts),
            unit="bytes",
        ),
        _by_mount(
            "uwsgibridge_sent_bytes",
            "Bodies of answers.",
            (((("mount", label),), it.sent_bytes) for label, it in mounts),
            unit="bytes",
        ),
        _by_mount(
            "uwsgibridge_websocket_messages",
            "Messages of WebSockets, in from clients and out to them.",
            (
                ((("mount", label), ("direction", direction)), count)
                for label, it in mounts
                for direction, count in (("in", it.messages_in), ("out", it.messages_out))
            ),
        ),
        _by_reason("uwsgibridge_refusals", "Requests that were refused.", REFUSAL, totals),
        _single("uwsgibridge_client_disconnects", "Clients that left before their answer's end.", totals.named, CLIENT_GONE),
        _single("uwsgibridge_application_errors", "Failures of applications.", totals.named, APP_ERROR),
        _single("uwsgibridge_requests_aborted", "Requests that a worker held when it was killed.", totals.named, ABORTED),
        _single("uwsgibridge_slow_requests", "Requests that took longer than --slow-request-seconds.", totals.named, SLOW),
        Family(
            "uwsgibridge_worker_cpu_seconds",
            Kind.COUNTER,
            "CPU time that workers have used, looked at each second.",
            [Sample((), totals.named.get(CPU_MILLISECONDS, 0) / 1000)],
            "seconds",
        ),
        _by_reason("uwsgibridge_worker_restarts", "Workers that ended and were replaced.", RESTART, totals, known=("crashed", "killed", "recycled")),
        _by_reason("uwsgibridge_reloads", "Reloads.", RELOAD, totals, label="outcome", known=("done", "failed")),
        _own("uwsgibridge_event_loop_lag_seconds", "How late the event loop of a worker was, looked at each second.", totals, {"event_loop_lag": ()}),
        _own("uwsgibridge_gil_wait_seconds", "How long a thread has waited for the interpreter's lock, looked at each second.", totals, {"gil_wait": ()}),
        _own(
            "uwsgibridge_gc_pause_seconds",
            "Pauses of the garbage collector.",
            totals,
            {f"gc_{it}": (("generation", str(it)),) for it in range(3)},
        ),
    ]  # fmt: skip


def _by_mount(
    name: str, text: str, counted: Iterable[tuple[Labels, int]], *, unit: str = ""
) -> Family:
    return Family(name, Kind.COUNTER, text, [Sample(labels, it) for labels, it in counted], unit)


def _request_times(name: str, text: str, mounts: Iterable[tuple[str, MountTotals]]) -> Family:
    samples = [_histogram((("mount", label),), it.times[name]) for label, it in mounts]
    return Family(f"uwsgibridge_request_{name}_seconds", Kind.HISTOGRAM, text, samples, "seconds")


def _by_reason(
    name: str,
    text: str,
    prefix: str,
    totals: Totals,
    *,
    label: str = "reason",
    known: Iterable[str] = (),
) -> Family:
    # What is known is there from the beginning with 0: Prometheus sees no increase where a series comes to be with 1.
    counted = dict.fromkeys(known, 0) | totals.by_reason(prefix)
    samples = [Sample(((label, reason),), count) for reason, count in sorted(counted.items())]
    return Family(name, Kind.COUNTER, text, samples)


def _single(name: str, text: str, named: Mapping[str, int], which: str) -> Family:
    return Family(name, Kind.COUNTER, text, [Sample((), named.get(which, 0))])


def _own(name: str, text: str, totals: Totals, samples: Mapping[str, Labels]) -> Family:
    made = [
        _histogram(labels, totals.own[it]) for it, labels in samples.items() if it in totals.own
    ]
    return Family(name, Kind.HISTOGRAM, text, made, "seconds")


def _histogram(labels: Labels, it: HistogramSum) -> Histogram:
    return Histogram(labels, it.bounds, tuple(it.counts), it.seconds)
