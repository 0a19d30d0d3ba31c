"""The statistics have what uWSGI's have, and uwsgi_exporter's names are made of them."""

from __future__ import annotations

import json

from prometheus_client.parser import text_string_to_metric_families

from tests.figures.snapshots import service, worker
from uwsgibridge.figures.snapshot import Backlog
from uwsgibridge.figures.text import TextFormat, render
from uwsgibridge.figures.uwsgi_exporter import exporter_families
from uwsgibridge.figures.uwsgi_statistics import MAX_CORES, uwsgi_statistics

# The keys that uwsgi_master_generate_stats of uWSGI 2.0.31 writes, in each object.
OF_SERVICE = {
    "version", "listen_queue", "listen_queue_errors", "signal_queue", "load", "pid", "uid", "gid", "cwd", "locks",
    "sockets", "workers",
}  # fmt: skip
OF_SOCKET = {"name", "proto", "queue", "max_queue", "shared", "can_offload"}
OF_WORKER = {
    "id", "pid", "accepting", "requests", "delta_requests", "exceptions", "harakiri_count", "signals", "signal_queue",
    "status", "rss", "vsz", "running_time", "last_spawn", "respawn_count", "tx", "avg_rt", "apps", "cores",
}  # fmt: skip
OF_APP = {"id", "modifier1", "mountpoint", "startup_time", "requests", "exceptions", "chdir"}
OF_CORE = {
    "id", "requests", "static_requests", "routed_requests", "offloaded_requests", "write_errors", "read_errors",
    "in_request", "vars", "req_info",
}  # fmt: skip

BUSY = worker(
    1,
    "busy",
    requests=10,
    app_errors=2,
    client_gone=1,
    refused={"request_timeout": 3},
    in_flight=2,
    capacity=4,
    application_seconds=0.5,
    sent_bytes=77,
    rss_bytes=4096,
    size_bytes=8192,
    starts=5,
)


def test_each_object_has_the_keys_of_uwsgis() -> None:
    statistics = json.loads(json.dumps(uwsgi_statistics(service(BUSY))))
    [one] = statistics["workers"]
    assert set(statistics) == OF_SERVICE
    assert [set(it) for it in statistics["sockets"]] == [OF_SOCKET]
    assert set(one) == OF_WORKER
    assert [set(it) for it in one["apps"]] == [OF_APP]
    assert [set(it) for it in one["cores"]] == [OF_CORE] * 4


def test_values() -> None:
    statistics = uwsgi_statistics(
        service(
            BUSY,
            mounts=["/", "/api"],
            backlogs=[
                Backlog(address="unix:/run/app.sock", waiting=3),
                Backlog(address="[::1]:3031", waiting=None),
            ],
        )
    )
    assert statistics["listen_queue"] == 3
    assert [it["name"] for it in statistics["sockets"]] == ["/run/app.sock", "[::1]:3031"]
    [one] = statistics["workers"]
    assert one["status"] == "busy"
    assert one["harakiri_count"] == 3
    assert (one["rss"], one["vsz"], one["tx"], one["respawn_count"]) == (4096, 8192, 77, 5)
    assert (one["running_time"], one["avg_rt"]) == (500_000, 50_000)  # microseconds
    assert [it["mountpoint"] for it in one["apps"]] == ["", "/api"]
    assert [it["in_request"] for it in one["cores"]] == [1, 1, 0, 0]
    assert (
        sum(it["requests"] for it in one["cores"])
        == sum(it["requests"] for it in one["apps"])
        == 10
    )


def test_an_asgi_worker_has_not_thousands_of_cores() -> None:
    [one] = uwsgi_statistics(service(worker(1, capacity=4096)))["workers"]
    assert len(one["cores"]) == MAX_CORES


def test_a_number_has_one_worker() -> None:
    """A worker that drains gives its place to its successor, though that was listed before."""
    statistics = uwsgi_statistics(
        service(
            worker(2),
            worker(1, pid=7, started_at=20.0),
            worker(1, "stopping", pid=6, started_at=10.0),
        )
    )
    assert [(it["id"], it["pid"]) for it in statistics["workers"]] == [(1, 7), (2, 102)]


def test_a_worker_that_starts_accepts_nothing() -> None:
    [one] = uwsgi_statistics(service(worker(1, "starting")))["workers"]
    assert (one["accepting"], one["status"], one["avg_rt"]) == (0, "idle", 0)


def test_the_names_of_uwsgi_exporter() -> None:
    text = render(exporter_families(uwsgi_statistics(service(BUSY))), TextFormat.PROMETHEUS)
    samples = {
        (it.name, it.labels.get("worker_id"), it.labels.get("core_id")): it.value
        for family in text_string_to_metric_families(text)
        for it in family.samples
    }
    assert samples["uwsgi_listen_queue_length", None, None] == 3
    assert samples["uwsgi_workers", None, None] == 1
    assert samples["uwsgi_socket_max_queue_length", None, None] == 2048
    assert samples["uwsgi_worker_requests_total", "1", None] == 10
    assert samples["uwsgi_worker_running_time_seconds", "1", None] == 0.5
    assert samples["uwsgi_worker_average_response_time_seconds", "1", None] == 0.05
    assert samples["uwsgi_worker_busy", "1", None] == 1
    assert samples["uwsgi_worker_cores", "1", None] == 4
    assert samples["uwsgi_worker_core_busy", "1", "1"] == 1
    assert samples["uwsgi_worker_core_busy", "1", "2"] == 0
    assert samples["uwsgi_worker_app_exceptions_total", "1", None] == 2
