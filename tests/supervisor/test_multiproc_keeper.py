"""Figures of a whole service, by prometheus_client itself: workers are killed, recycled, reloaded and upgraded."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.bridge_process import BridgeProcess, running_process
from tests.forked_command import run_command
from tests.log_events import EVENT_SECONDS
from tests.prometheus_files import names, write_file
from uwsgibridge.client import request
from uwsgibridge.control.client import ask

APPLICATION: Final = """
import os, sys
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest

REQUESTS = Counter("requests", "That were answered.", ["path"])
SECONDS = Histogram("seconds", "Of them.", buckets=(1, 2))
BYTES = Summary("bytes", "Of them.")
OPEN = Gauge("open", "Workers.", multiprocess_mode="livesum")
OPEN.set(1)
LAST = Gauge("last", "Of all.", multiprocess_mode="mostrecent")

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/metrics":
        # As many do it: when it is asked for first.
        from prometheus_client.multiprocess import MultiProcessCollector
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        body = generate_latest(registry)
    elif path == "/fork":
        child = os.fork()
        if child == 0:
            REQUESTS.labels(path).inc()
            os._exit(0)
        os.waitpid(child, 0)
        body = b""
    else:
        REQUESTS.labels(path).inc()
        SECONDS.observe(1.5)
        BYTES.observe(2)
        LAST.set(int(path.strip("/")))
        body = os.environ["PROMETHEUS_MULTIPROC_DIR"].encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]
"""


@contextmanager
def running(directory: Path, *more: str) -> Iterator[BridgeProcess]:
    (directory / "site_app.py").write_text(APPLICATION)
    arguments = (
        *(
            "serve",
            "site_app:app",
            "--bind",
            "127.0.0.1:0",
            "--log-format",
            "json",
            "--workers",
            "2",
        ),
        *("--control-socket", str(directory / "control"), "--prometheus-multiproc-dir", "figures"),
    )
    with running_process(*arguments, *more, directory=directory) as bridge:
        yield bridge


def get(address: str, path: str) -> str:
    answer = request(address, path)
    assert answer.status == 200, answer.body
    return answer.body.decode()


def scrape(address: str) -> dict[str, float]:
    text = get(address, "/metrics")
    return {name: float(value) for name, value in re.findall(r"(?m)^([^# ]+) (.+)$", text)}


def total(figures: dict[str, float]) -> float:
    return sum(value for name, value in figures.items() if name.startswith("requests_total"))


def until(is_so: Callable[[], bool], why: Callable[[], Any]) -> None:
    end = time.monotonic() + EVENT_SECONDS
    while not is_so():
        assert time.monotonic() < end, why()


def workers(directory: Path) -> list[int]:
    told = ask(directory / "control", "status")["workers"]
    return [it["pid"] for it in told if it["state"] in {"ready", "running"}]


@contextmanager
def scraped_all_the_time(bridge: BridgeProcess) -> Iterator[list[float]]:
    """Scrape while the block runs, and give each sum of requests."""
    seen, problems, is_over = [0.0], list[BaseException](), threading.Event()

    def scrape_again_and_again() -> None:
        while not is_over.is_set():
            try:
                seen.append(total(scrape(bridge.address)))
            except (AssertionError, ValueError) as error:
                problems.append(error)
                return
            except Exception:
                continue

    thread = threading.Thread(target=scrape_again_and_again)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()
    assert problems == [], bridge.events.text()
    assert seen == sorted(seen)
    assert len(seen) > 10


def test_no_figure_is_lost_or_counted_twice(directory: Path) -> None:
    figures = directory / "figures"
    with running(directory, "--preload", "--max-requests", "25") as bridge:
        address = bridge.address
        asked = 0

        def serve(count: int) -> None:
            nonlocal asked
            for _ in range(count):
                asked += 1
                assert get(address, f"/{asked}") == str(figures)

        def is_gone(name: str) -> bool:
            return name not in names(figures)

        for _ in range(2):
            asked += 1
            get(address, "/fork")
        with scraped_all_the_time(bridge) as seen:
            serve(20)
            for pid in workers(directory):
                # One of them may have ended since, by --max-requests: each scrape is a request as well.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                until(partial(is_gone, f"counter_{pid}.db"), lambda: names(figures))
            serve(60)
            bridge.events.wait(event="recycling worker")
            ask(directory / "control", "reload", timeout_seconds=EVENT_SECONDS)
            serve(20)
            bridge.signal(signal.SIGUSR2)
            bridge.events.wait(event="upgraded")
            bridge.events.wait_many(2, event="reloaded")
            serve(20)
        told = scrape(address)
        assert seen[-1] <= asked == total(told)
        assert told['requests_total{path="/fork"}'] == 2
        observed = asked - 2
        assert told['seconds_bucket{le="2.0"}'] == told["seconds_count"] == observed
        assert (told["seconds_sum"], told["bytes_sum"]) == (1.5 * observed, 2.0 * observed)
        assert told["last"] == asked

        def is_folded() -> bool:
            left = {name.removesuffix(".db").rpartition("_")[2] for name in names(figures)}
            left -= {str(pid) for pid in workers(directory)}
            # The template has loaded the application, too.
            return len([it for it in left if not it.startswith("ended-")]) == 1

        until(is_folded, lambda: (names(figures), workers(directory)))
        kinds = {name.rpartition("_")[0] for name in names(figures)}
        assert kinds == {"counter", "histogram", "summary", "gauge_livesum", "gauge_mostrecent"}
        assert len([it for it in names(figures) if "ended" in it]) == 4
        assert total(scrape(address)) == asked
        assert bridge.stop() == 0
    assert not bridge.events.find(event="application failed"), bridge.events.text()


def test_a_start_begins_at_nothing(directory: Path) -> None:
    (directory / "figures").mkdir()
    write_file(directory / "figures", "counter", 1, 5, name="requests", path="/old")
    with running(directory, "--workers", "0") as bridge:
        assert get(bridge.address, "/1") == str(directory / "figures")
        assert names(directory / "figures")
        assert "counter_1.db" not in names(directory / "figures")
        assert bridge.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--prometheus-multiproc-dir", "."), "site_app.py is no file of prometheus_client"),
        (
            ("--env", "PROMETHEUS_MULTIPROC_DIR=/elsewhere"),
            "--env: PROMETHEUS_MULTIPROC_DIR is /elsewhere, and --prometheus-multiproc-dir is",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    directory: Path, arguments: tuple[str, ...], said: str
) -> None:
    (directory / "site_app.py").write_text(APPLICATION)
    status, output = run_command(
        *("serve", "site_app:app", "--bind", "127.0.0.1:0", "--workers", "1"),
        *("--prometheus-multiproc-dir", "figures", *arguments),
        directory=directory,
    )
    assert status == 2
    assert said in output
