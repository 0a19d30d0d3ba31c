"""Figures with the names that uwsgi_exporter gives them, which dashboards for uWSGI know (``--metrics-names``).

The names, labels and units are those of uwsgi_exporter's collector; it reads uWSGI's statistics, and so does this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from uwsgibridge.figures.family import Family, Kind, Labels, Sample

_MICROSECONDS: Final = 1_000_000

# Of each group of names: the key in the statistics, the name, its help, its kind, and what a value is divided by.
_MAIN: Final = (
    ("listen_queue", "listen_queue_length", "Length of listen queue.", Kind.GAUGE, 1),
    ("listen_queue_errors", "listen_queue_errors", "Number of listen queue errors.", Kind.GAUGE, 1),
    ("signal_queue", "signal_queue_length", "Length of signal queue.", Kind.GAUGE, 1),
    ("workers", "workers", "Number of workers.", Kind.GAUGE, 1),
)
_SOCKET: Final = (
    ("queue", "queue_length", "Length of socket queue.", Kind.GAUGE, 1),
    ("max_queue", "max_queue_length", "Max length of socket queue.", Kind.GAUGE, 1),
    ("shared", "shared", "Is shared socket?", Kind.GAUGE, 1),
    ("can_offload", "can_offload", "Can socket offload?", Kind.GAUGE, 1),
)
_WORKER: Final = (
    ("accepting", "accepting", "Is this worker accepting requests?", Kind.GAUGE, 1),
    ("delta_requests", "delta_requests", "Number of delta requests.", Kind.GAUGE, 1),
    ("signal_queue", "signal_queue_length", "Length of signal queue.", Kind.GAUGE, 1),
    ("rss", "rss_bytes", "Worker RSS bytes.", Kind.GAUGE, 1),
    ("vsz", "vsz_bytes", "Worker VSZ bytes.", Kind.GAUGE, 1),
    ("running_time", "running_time_seconds", "Worker running time in seconds.", Kind.GAUGE, _MICROSECONDS),
    ("last_spawn", "last_spawn_time_seconds", "Last spawn time in seconds since epoch.", Kind.GAUGE, 1),
    ("avg_rt", "average_response_time_seconds", "Average response time in seconds.", Kind.GAUGE, _MICROSECONDS),
    ("requests", "requests", "Total number of requests.", Kind.COUNTER, 1),
    ("exceptions", "exceptions", "Total number of exceptions.", Kind.COUNTER, 1),
    ("harakiri_count", "harakiri_count", "Total number of harakiri count.", Kind.COUNTER, 1),
    ("signals", "signals", "Total number of signals.", Kind.COUNTER, 1),
    ("respawn_count", "respawn_count", "Total number of respawn count.", Kind.COUNTER, 1),
    ("tx", "transmitted_bytes", "Worker transmitted bytes.", Kind.COUNTER, 1),
)  # fmt: skip
_COUNTED: Final = (
    ("apps", "apps", "Number of apps.", Kind.GAUGE, 1),
    ("cores", "cores", "Number of cores.", Kind.GAUGE, 1),
)
_STATUS: Final = (
    ("busy", "busy", "Is worker busy?", Kind.GAUGE, 1),
    ("idle", "idle", "Is worker idle?", Kind.GAUGE, 1),
    ("cheap", "cheap", "Is worker cheap?", Kind.GAUGE, 1),
)
_APP: Final = (
    ("startup_time", "startup_time_seconds", "How long this app took to start.", Kind.GAUGE, 1),
    ("requests", "requests", "Total number of requests.", Kind.COUNTER, 1),
    ("exceptions", "exceptions", "Total number of exceptions.", Kind.COUNTER, 1),
)
_CORE: Final = (
    ("in_request", "busy", "Is core busy?", Kind.GAUGE, 1),
    ("requests", "requests", "Total number of requests.", Kind.COUNTER, 1),
    ("static_requests", "static_requests", "Total number of static requests.", Kind.COUNTER, 1),
    ("routed_requests", "routed_requests", "Total number of routed requests.", Kind.COUNTER, 1),
    ("offloaded_requests", "offloaded_requests", "Total number of offloaded requests.", Kind.COUNTER, 1),
    ("write_errors", "write_errors", "Total number of write errors.", Kind.COUNTER, 1),
    ("read_errors", "read_errors", "Total number of read errors.", Kind.COUNTER, 1),
)  # fmt: skip

# uwsgi_exporter has this label for where it asks, and dashboards choose services by it.
_STATS_URI: Final = ("stats_uri", "uwsgibridge")

_STATUSES: Final = ("busy", "idle", "cheap")

_Row = tuple[str, str, str, Kind, float]
_Things = Sequence[tuple[Labels, Mapping[str, Any]]]


def exporter_families(statistics: Mapping[str, Any]) -> list[Family]:
    """Make the families that uwsgi_exporter makes of uWSGI's statistics.

    Args:
        statistics: as `uwsgibridge.figures.uwsgi_statistics` gives them.

    Returns:
        Its families, without those about the exporter itself.
    """
    workers = statistics["workers"]
    of_workers: _Things = [((("worker_id", str(it["id"])),), it) for it in workers]
    whole: _Things = [
        (
            (),
            {
                "listen_queue": statistics["listen_queue"],
                "listen_queue_errors": statistics["listen_queue_errors"],
                "signal_queue": statistics["signal_queue"],
                "workers": len(workers),
            },
        )
    ]
    sockets: _Things = [
        ((("name", it["name"]), ("proto", it["proto"])), it) for it in statistics["sockets"]
    ]
    counted: _Things = [
        (labels, {"apps": len(it["apps"]), "cores": len(it["cores"])}) for labels, it in of_workers
    ]
    statuses: _Things = [
        (labels, {status: int(it["status"] == status) for status in _STATUSES})
        for labels, it in of_workers
    ]
    apps: _Things = [
        (
            (*labels, ("app_id", str(app["id"])), ("mountpoint", app["mountpoint"]), ("chdir", app["chdir"])),
            app,
        )
        for labels, it in of_workers
        for app in it["apps"]
    ]  # fmt: skip
    cores: _Things = [
        ((*labels, ("core_id", str(core["id"]))), core)
        for labels, it in of_workers
        for core in it["cores"]
    ]
    return [
        *_families("uwsgi", _MAIN, whole),
        *_families("uwsgi_socket", _SOCKET, sockets),
        *_families("uwsgi_worker", _WORKER, of_workers),
        *_families("uwsgi_worker", _COUNTED, counted),
        *_families("uwsgi_worker", _STATUS, statuses),
        *_families("uwsgi_worker_app", _APP, apps),
        *_families("uwsgi_worker_core", _CORE, cores),
    ]


def _families(prefix: str, rows: Sequence[_Row], things: _Things) -> list[Family]:
    return [
        Family(
            f"{prefix}_{name}",
            kind,
            text,
            [Sample((_STATS_URI, *labels), it[key] / divisor) for labels, it in things],
        )
        for key, name, text, kind, divisor in rows
    ]
