"""A reader of the log that stands still stops nothing: requests are answered, and SIGTERM ends the process."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from uwsgibridge.client import PingError, Response, ping, request

PATIENCE_SECONDS = 40.0
GRACE_SECONDS = 2.0
# Beyond it: kept lines that are offered once more, the interpreter's own end, a busy machine.
END_SECONDS = GRACE_SECONDS + 8.0
REQUESTS = 150

APPS = """
import sys

def wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/fails":
        raise ValueError("x" * 1000)
    environ["wsgi.errors"].write("y" * 1000 + "\\n")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"fine"]

async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no " + scope["type"])
    if scope["path"] == "/fails":
        raise ValueError("x" * 1000)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine"})

def prints(environ, start_response):
    # What the application writes itself is its own to wait for.
    print("z" * 1_000_000, file=sys.stderr)
    return wsgi(environ, start_response)
"""


class Unread:
    """A bridge whose log goes into a small pipe that nobody reads, until `read_log` does."""

    def __init__(self, directory: Path, arguments: Sequence[str]) -> None:
        self.address = f"unix:{directory}/app.sock"
        self._reader, writer = os.pipe()
        if sys.platform == "linux":
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "uwsgibridge", "serve", *arguments),
                *("--bind", self.address, "--log-format", "json", "--control-socket", "none"),
                *("--graceful-timeout-seconds", str(GRACE_SECONDS), "--access-log"),
                *("--log-buffer-bytes", "20000"),
            ],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=writer,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
        os.close(writer)
        self._lines: list[str] = []
        self._has_read = threading.Condition()
        self._thread: threading.Thread | None = None

    def wait_up(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                # The socket is there before the application is: the ping waits in it.
                ping(self.address, timeout_seconds=PATIENCE_SECONDS)
            except PingError:
                assert self.process.poll() is None, "it has ended"
                assert time.monotonic() < deadline
                threading.Event().wait(0.01)
            else:
                return

    def ask(self, path: str = "/") -> Response:
        return request(self.address, path, timeout_seconds=PATIENCE_SECONDS)

    def ask_often(self) -> list[int]:
        with ThreadPoolExecutor(8) as pool:
            paths = ["/", "/fails"] * (REQUESTS // 2)
            return [answer.status for answer in pool.map(self.ask, paths)]

    def stop(self) -> float:
        """Send SIGTERM; give the seconds to the end."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE_SECONDS) == 0
        return time.monotonic() - began

    def read_log(self) -> None:
        def read() -> None:
            with os.fdopen(self._reader, encoding="utf-8") as log:
                for line in log:
                    with self._has_read:
                        self._lines.append(line)
                        self._has_read.notify_all()

        self._thread = threading.Thread(target=read)
        self._thread.start()

    def wait_read(self, text: str) -> None:
        """Wait for a line of the log that has this text."""
        with self._has_read:
            assert self._has_read.wait_for(
                lambda: any(text in line for line in self._lines), PATIENCE_SECONDS
            ), text

    def events(self) -> list[dict[str, Any]]:
        """Give all events; the bridge has to have ended."""
        assert self._thread is not None
        self._thread.join(PATIENCE_SECONDS)
        return [json.loads(line) for line in self._lines]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self._thread is None:
            os.close(self._reader)
        else:
            self._thread.join()


@contextmanager
def unread(directory: Path, *arguments: str) -> Iterator[Unread]:
    (directory / "apps.py").write_text(APPS)
    bridge = Unread(directory, arguments)
    try:
        bridge.wait_up()
        yield bridge
    finally:
        bridge.end()


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("b")


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("app", ["apps:wsgi", "apps:asgi"])
def test_all_is_served_and_sigterm_ends_it(directory: Path, app: str, workers: str):
    with unread(directory, app, "--workers", workers) as bridge:
        assert set(bridge.ask_often()) == {200, 500}
        assert bridge.stop() < END_SECONDS


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_each_loop_goes_on(directory: Path, loop: str):
    with unread(directory, "apps:asgi", "--workers", "0", "--loop", loop) as bridge:
        assert set(bridge.ask_often()) == {200, 500}
        assert bridge.stop() < END_SECONDS


def test_reload_and_stop_of_a_supervisor_that_can_say_nothing(directory: Path):
    with unread(directory, "apps:wsgi", "--workers", "1", "--preload") as bridge:
        assert set(bridge.ask_often()) == {200, 500}
        for _ in range(3):
            bridge.process.send_signal(signal.SIGHUP)
            assert set(bridge.ask_often()) == {200, 500}
        assert bridge.stop() < END_SECONDS


@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_was_dropped_is_said_once_when_the_reader_is_back(directory: Path, workers: str):
    with unread(directory, "apps:wsgi", "--workers", workers) as bridge:
        bridge.ask_often()
        bridge.read_log()
        # Whoever answers this one has its log read.
        assert bridge.ask().status == 200
        # Else the gap may come after all other lines, of a reader that was not back by then.
        bridge.wait_read("log lines were dropped")
        assert bridge.stop() < END_SECONDS
        events = bridge.events()
    gaps = [it for it in events if it["event"].startswith("log lines were dropped")]
    assert {it["level"] for it in gaps} == {"error"}
    assert all(it["option"] == "--log-buffer-bytes" and it["seconds"] > 0 for it in gaps)
    said = sum(it["event"] == "access" for it in events)
    # An access line for each, and a line of the application's, or a traceback.
    assert 0 < sum(it["lines"] for it in gaps) <= 2 * REQUESTS + 2
    assert said < REQUESTS
    assert len(gaps) <= max(1, int(workers))
    assert events[-1]["event"] == "stopped"


def test_print_of_the_application_that_waits_holds_no_stop_up(directory: Path):
    with unread(directory, "apps:prints", "--workers", "1") as bridge, ThreadPoolExecutor() as pool:
        asked = [pool.submit(bridge.ask) for _ in range(3)]
        # They are in the worker.
        ping(bridge.address, timeout_seconds=PATIENCE_SECONDS)
        assert bridge.stop() < END_SECONDS
        for one in asked:
            assert one.exception() is not None or one.result().status == 503
