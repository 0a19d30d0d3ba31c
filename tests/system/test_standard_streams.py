"""A service that is started with closed standard streams serves, and writes no log line into a socket."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from uwsgibridge.client import PingError, ping, request

PATIENCE_SECONDS = 60.0

APPLICATION = """
import os, sys

def app(environ, start_response):
    print("to standard output", flush=True)
    print("to standard error", file=sys.stderr, flush=True)
    start_response("200 OK", [])
    return [" ".join(os.path.realpath(f"/proc/self/fd/{it}") for it in range(3)).encode()]
"""

CLOSED = [it for size in (1, 2, 3) for it in itertools.combinations((0, 1, 2), size)]


@pytest.mark.parametrize(
    ("workers", "closed"),
    [*(("0", it) for it in CLOSED), ("1", (2,)), ("1", (0, 1, 2))],
    ids=lambda it: "".join(map(str, it)),
)
def test_closed_streams_are_opened(tmp_path: Path, workers: str, closed: tuple[int, ...]) -> None:
    (tmp_path / "site_.py").write_text(APPLICATION)
    log, path = tmp_path / "log", tmp_path / "s"
    command = [
        sys.executable, "-m", "uwsgibridge", "serve", "site_:app", "--bind", "unix:s",
        "--workers", workers, "--control-socket", "none", "--log-file", "log",
    ]  # fmt: skip
    closings = " ".join(f"{it}>&-" for it in closed)
    with subprocess.Popen(
        ["sh", "-c", f'exec "$@" {closings}', "sh", *command],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_for_bridge(process, path)
            answer = request(f"unix:{path}")
            assert answer.status == 200
            devnull = os.path.realpath(os.devnull)
            expected = " ".join([devnull, devnull, str(log)])
            assert answer.body.decode() == expected
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_SECONDS) == 0
        finally:
            process.kill()
    written = log.read_text()
    assert "to standard error" in written
    assert "Traceback" not in written


def wait_for_bridge(process: subprocess.Popen[bytes], path: Path) -> None:
    deadline = monotonic() + PATIENCE_SECONDS
    while True:
        try:
            ping(f"unix:{path}")
        except PingError:
            assert process.poll() is None, "it has ended"
            assert monotonic() < deadline
            sleep(0.01)
        else:
            return


@pytest.mark.parametrize("closed", CLOSED, ids=lambda closed: "".join(map(str, closed)))
def test_other_commands_run_with_closed_streams(tmp_path: Path, closed: tuple[int, ...]) -> None:
    finished = subprocess.run(
        ["sh", "-c", f'exec "$@" {" ".join(f"{it}>&-" for it in closed)}', "sh",
         sys.executable, "-m", "uwsgibridge", "ping", f"unix:{tmp_path}/nobody"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_SECONDS,
        check=False,
    )  # fmt: skip
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert ("nobody" in finished.stderr) is (2 not in closed)
