"""Figures behind a real Nginx, as the programs read them that operators have: Prometheus, promtool, curl, uwsgitop."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from integration.conftest import APPS
from uwsgibridge.frontend.options import Site, StatusLocation
from uwsgibridge.frontend.private import PrivateNginx
from uwsgibridge.testing import LocalStack

PATIENCE_SECONDS = 30.0
LOCATION = "/-/status"

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed (Debian: prometheus)"
)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    # Short enough for a unix socket.
    place = Path("/tmp") / f"uwsgibridge-figures-{os.getpid()}"
    place.mkdir(mode=0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place)


@pytest.fixture(scope="module")
def service(place: Path) -> Iterator[LocalStack]:
    """One service, whose figures Nginx publishes to this machine."""
    with LocalStack(
        "exercises.wsgi",
        app_dir=APPS,
        socket="unix",
        serve_args=(
            *("--workers", "2", "--threads", "3"),
            *("--status-bind", f"unix:{place}/status", "--socket-mode", "0666"),
            *("--uwsgi-stats", f"unix:{place}/stats"),
        ),
        site=Site(status=StatusLocation(address=f"unix:{place}/status")),
    ) as service:
        yield service


def fetch(url: str, **headers: str) -> tuple[int, str, str]:
    """Give status, content type and body."""
    request = urllib.request.Request(
        url, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_nginx_publishes_them(service: LocalStack) -> None:
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--fail", f"{service.url}{LOCATION}/metrics"],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
    )
    assert 'uwsgibridge_workers{state="ready"} 2\n' in done.stdout
    status, kind, body = fetch(
        f"{service.url}{LOCATION}/metrics", Accept="application/openmetrics-text;version=1.0.0"
    )
    assert (status, kind) == (200, "application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert body.endswith("# EOF\n")
    assert fetch(f"{service.url}{LOCATION}/healthz")[0] == 200
    # Elsewhere, the application answers.
    assert "uwsgibridge_workers" not in fetch(f"{service.url}/metrics")[2]


def test_promtool_has_nothing_to_say(service: LocalStack) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=fetch(f"{service.url}{LOCATION}/metrics")[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_others_may_not_see_them(service: LocalStack, place: Path) -> None:
    location = StatusLocation(address=f"unix:{place}/status", allow=("192.0.2.0/24",))
    site = Site(upstreams=(service.address,), status=location)
    with PrivateNginx(site) as nginx:
        status, _, body = fetch(f"{nginx.url}{LOCATION}/metrics")
    assert status == 403
    assert "uwsgibridge_workers" not in body


@needs_prometheus
def test_prometheus_scrapes_them(service: LocalStack, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (tmp_path / "prometheus.yml").write_text(
        json.dumps(
            {
                "scrape_configs": [
                    {
                        "job_name": "bridge",
                        "metrics_path": f"{LOCATION}/metrics",
                        "scrape_interval": "200ms",
                        "scrape_timeout": "200ms",
                        "static_configs": [{"targets": [service.url.removeprefix("http://")]}],
                    }
                ]
            }
        )
    )
    for _ in range(3):
        fetch(f"{service.url}/hello")
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address={address}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:

        def asked(query: str) -> list[Any]:
            text = urllib.parse.urlencode({"query": query})
            try:
                answer = json.loads(fetch(f"http://{address}/api/v1/query?{text}")[2])
            except (OSError, ValueError):
                return []  # it does not listen yet
            result = answer.get("data", {}).get("result", [])
            assert isinstance(result, list)
            return result

        def is_scraped() -> bool:
            sleep(0.05)  # nothing tells when Prometheus has scraped
            return bool(asked("uwsgibridge_workers_wanted"))

        wait_until(is_scraped)
        [up] = asked('up{job="bridge"}')
        assert up["value"][1] == "1"
        [ready] = asked('uwsgibridge_workers{state="ready"}')
        assert ready["value"][1] == "2"
        [requests] = asked("sum(uwsgibridge_requests_total)")
        assert int(requests["value"][1]) >= 3
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def test_uwsgitop_shows_them(service: LocalStack, place: Path) -> None:
    program = Path(sys.executable).with_name("uwsgitop")
    if not program.exists():
        pytest.skip("uwsgitop is not installed")
    fetch(f"{service.url}/hello")
    terminal, its_end = pty.openpty()
    with os.fdopen(terminal, "r+b", buffering=0) as screen:
        process = subprocess.Popen(
            [program, f"{place}/stats"],
            stdin=its_end,
            stdout=its_end,
            stderr=its_end,
            env={**os.environ, "TERM": "xterm", "LINES": "24", "COLUMNS": "160"},
        )
        os.close(its_end)
        shown = bytearray()

        def shows(*texts: bytes) -> bool:
            if select.select([screen], [], [], PATIENCE_SECONDS)[0]:
                shown.extend(screen.read(65_536) or b"")
            return all(it in shown for it in texts)

        try:
            wait_until(lambda: shows(b"uwsgi-uwsgibridge-") and shown.count(b"idle") == 2)
            screen.write(b"a")  # requests by core
            wait_until(lambda: shows(b":0"))
            screen.write(b"q")
            assert process.wait(PATIENCE_SECONDS) == 0, shown
        finally:
            process.kill()
            process.wait()
    assert b"Traceback" not in shown


def wait_until(is_so: Callable[[], bool]) -> None:
    end = monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert monotonic() < end
