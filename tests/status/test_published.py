"""A service publishes its figures from its start to its stop, with a supervisor and without one."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from time import monotonic

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.bridge_process import BridgeProcess, run_to_its_end, running_process
from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.client import request

APPLICATION = """
def app(environ, start_response):
    if environ["PATH_INFO"] == "/fails":
        raise RuntimeError("as it is told to")
    start_response("200 OK", [])
    return [b"here"]
"""

Start = Callable[..., AbstractContextManager[BridgeProcess]]

either_way = pytest.mark.parametrize("workers", [0, 2])


@pytest.fixture
def start(short: Path) -> Start:
    (short / "site_app.py").write_text(APPLICATION)

    def start(*arguments: str, workers: int) -> AbstractContextManager[BridgeProcess]:
        return running_process(
            *("serve", "site_app:app", "--bind", f"unix:{short}/app", "--log-format", "json"),
            *("--workers", str(workers), *arguments),
            directory=short,
        )

    return start


def figures(address: str) -> dict[str, float]:
    """Scrape the figures, and give each value by the name with its labels."""
    answer = request(address, "/metrics")
    assert answer.status == 200
    return {
        ",".join([it.name, *it.labels.values()]): it.value
        for family in text_string_to_metric_families(answer.body.decode())
        for it in family.samples
    }


def figures_with(address: str, answered: dict[str, int]) -> dict[str, float]:
    """Scrape the figures until so many answers are recorded: a request is over a moment after its answer."""
    end = monotonic() + PATIENCE_SECONDS
    while True:
        found = figures(address)
        if all(
            found.get(f"uwsgibridge_requests_total,/,GET,{it}") == answered[it] for it in answered
        ):
            return found
        assert monotonic() < end, found


def statistics(path: Path) -> dict[str, object]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.connect(str(path))
        with client.makefile("rb") as answer:
            found = json.load(answer)
            assert isinstance(found, dict)
            return found


@either_way
def test_from_the_start_to_the_stop(start: Start, short: Path, workers: int) -> None:
    status = f"unix:{short}/status"
    file = short / "bridge.prom"
    with start(
        *("--status-bind", status, "--socket-mode", "0600", "--uwsgi-stats", f"unix:{short}/stats"),
        *("--metrics-file", str(file), "--metrics-file-seconds", "0.05"),
        workers=workers,
    ) as bridge:
        assert bridge.address == f"unix:{short}/app"  # the application's, and none of figures
        for path in ("/", "/", "/fails"):
            request(bridge.address, path)
        found = figures_with(status, {"2xx": 2, "5xx": 1})
        assert found["uwsgibridge_application_errors_total"] == 1
        assert (
            found["uwsgibridge_workers,ready"]
            == found["uwsgibridge_workers_wanted"]
            == (workers or 1)
        )
        assert found[f"uwsgibridge_backlog_connections,unix:{short}/app"] == 0
        assert found["uwsgibridge_worker_resident_bytes,1"] > 1_000_000
        assert request(status, "/-/status/healthz").status == 200
        assert stat.S_IMODE((short / "status").stat().st_mode) == 0o600
        told = statistics(short / "stats")
        assert sum(it["requests"] for it in told["workers"]) == 3  # type: ignore[attr-defined]
        assert file.exists()
        # Nothing of the application is to be had there.
        assert request(status, "/fails").status == 404
        assert bridge.stop() == 0
    # No socket is left, and no file.
    assert {it.name for it in short.iterdir()} <= {"__pycache__", "site_app.py"}


def test_an_address_that_can_not_be_had_ends_the_start(short: Path) -> None:
    (short / "site_app.py").write_text(APPLICATION)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        status, output = run_to_its_end(
            *("serve", "site_app:app", "--bind", f"unix:{short}/app", "--workers", "2"),
            *("--status-bind", address),
            directory=short,
        )
    assert status == 1
    assert f"Error: --status-bind: {address}: the port is in use" in output
    assert "or use another --status-bind" in output
    assert not (short / "app").exists()


def test_a_file_that_can_not_be_written_ends_the_start(short: Path) -> None:
    (short / "site_app.py").write_text(APPLICATION)
    status, output = run_to_its_end(
        *("serve", "site_app:app", "--bind", f"unix:{short}/app", "--workers", "0"),
        *("--metrics-file", f"{short}/nowhere/x.prom"),
        directory=short,
    )
    assert status == 2
    assert f"--metrics-file {short}/nowhere/x.prom: there is no directory {short}/nowhere" in output


def test_it_outlives_a_reload_and_an_upgrade(start: Start, short: Path) -> None:
    status = f"unix:{short}/status"
    with start("--status-bind", status, "--metrics-file", f"{short}/x.prom", workers=1) as bridge:
        request(bridge.address, "/")
        inode = (short / "status").stat().st_ino
        before = figures(status)
        for number, (name, loaded) in enumerate(
            ((signal.SIGHUP, "reloaded"), (signal.SIGUSR2, "upgraded")), start=1
        ):
            bridge.signal(name)
            bridge.events.wait(event=loaded)
            if loaded == "upgraded":
                bridge.events.wait_many(2, event="reloaded")
            request(bridge.address, "/")
            now = figures_with(status, {"2xx": 1 + number})
            assert now["uwsgibridge_start_time_seconds"] == pytest.approx(
                before["uwsgibridge_start_time_seconds"], abs=1
            )
            assert (short / "status").stat().st_ino == inode
        assert (short / "x.prom").exists()
        assert bridge.stop() == 0
    assert not (short / "status").exists()


def test_health_before_the_first_worker_serves(start: Start, short: Path) -> None:
    """A load balancer asks while the application is loaded, and gets an answer."""
    gate = short / "gate"
    os.mkfifo(gate)
    (short / "site_app.py").write_text(f"open({str(gate)!r}).read()\n{APPLICATION}")
    status = f"unix:{short}/status"
    with start("--status-bind", status, workers=1) as bridge:
        bridge.events.wait(event="figures are published")
        answer = request(status, "/healthz")
        assert answer.status == 503
        assert answer.body.startswith(b"no worker serves: ")
        gate.write_text("")
        bridge.wait_listening(1)
        assert request(status, "/healthz").status == 200


def test_a_worker_that_stands_still_holds_no_scrape_up(start: Start, short: Path) -> None:
    status = f"unix:{short}/status"
    with start("--status-bind", status, "--heartbeat-timeout-seconds", "0", workers=1) as bridge:
        bridge.wait_listening(1)
        pid = bridge.events.wait(event="worker started")["worker"]
        os.kill(pid, signal.SIGSTOP)
        try:
            began = monotonic()
            found = figures(status)
            # Half a second for the worker, and what a busy machine takes for the rest.
            assert monotonic() - began < 3
            assert found["uwsgibridge_workers,stuck"] == 1
            assert found["uwsgibridge_workers,ready"] == 0
            answer = request(status, "/healthz")
            assert (answer.status, answer.body) == (503, b"no worker serves: 1 stuck\n")
        finally:
            os.kill(pid, signal.SIGCONT)
        assert bridge.stop() == 0
