"""What a process says of its start and of requests, and that it does so whatever becomes of `sys.stderr`."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.bridge_process import run_to_its_end, running_process
from tests.log_events import EVENT_SECONDS, PATIENCE_SECONDS
from uwsgibridge import __version__, fast
from uwsgibridge.client import request
from uwsgibridge.fast import PURE_VARIABLE

APPS = """
import os, sys

def wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/fails":
        raise ValueError("line one\\nline two")
    if environ["PATH_INFO"] == "/fails-oddly":
        class Odd(Exception):
            def __str__(self):
                raise RuntimeError
        raise Odd
    if environ["PATH_INFO"] == "/fails-at-length":
        raise ValueError("x" * 2000)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"fine"]

async def asgi(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine"})
"""

TAKEN = {
    "replaced": "sys.stderr = open(os.devnull, 'w')",
    "closed": "sys.stderr.close()",
    "none": "sys.stderr = None",
    "redirected": "os.dup2(os.open(os.devnull, os.O_WRONLY), 2)",
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "apps.py").write_text(APPS)
    return tmp_path


ON_TCP = ("--bind", "127.0.0.1:0", "--log-format", "json", "--control-socket", "none")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_start_says_what_serves(directory: Path, workers: str):
    with running_process(
        *("serve", "apps:wsgi", "--mount", "/api=apps:asgi", "--loop", "asyncio", *ON_TCP),
        *("--workers", workers),
        directory=directory,
    ) as process:
        address = process.address
        started = process.events.wait(event="started")
        count = max(1, int(workers))
        of_workers = process.events.wait_many(count, event="worker started")
        assert process.stop() == 0
    assert started["level"] == "info"
    assert {
        name: started[name] for name in ("version", "accelerator", "pid", "workers", "app")
    } == {
        "version": __version__,
        "accelerator": fast.accelerator_state
        if PURE_VARIABLE not in os.environ
        else f"off ({PURE_VARIABLE})",
        "pid": process.pid,
        "workers": int(workers),
        "app": "apps:wsgi, /api=apps:asgi",
    }
    assert started["addresses"] == [address]
    assert len({it["pid"] for it in of_workers}) == count
    for it in of_workers:
        assert it["apps"] == ["apps:wsgi (wsgi)", "apps:asgi (asgi) at /api"]
        assert it["loop"] == "asyncio"


def test_worker_that_comes_up_later_says_so_too(directory: Path):
    with running_process(
        "serve", "apps:wsgi", *ON_TCP, "--workers", "1", directory=directory
    ) as process:
        process.wait_listening(1)
        # Where only the worker knows it, nothing else names one: uvloop is installed, and has no part in it.
        assert "loop" not in process.events.wait(event="started")
        (first,) = process.events.find(event="worker started")
        os.kill(first["pid"], signal.SIGKILL)
        second = process.events.wait_many(2, event="worker started")[1]
        assert process.stop() == 0
    assert second["pid"] != first["pid"]
    assert second["loop"] == "trio"


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/fails", "ValueError: line one\nline two"),
        ("/fails-oddly", "Odd, whose message can't be shown: RuntimeError"),
        ("/fails-at-length", f"ValueError: {'x' * 500}..."),
    ],
)
def test_failure_says_the_message_of_its_exception(directory: Path, path: str, detail: str):
    with running_process("serve", "apps:wsgi", *ON_TCP, directory=directory) as process:
        assert request(process.address, path).status == 500
        event = process.events.wait(event="application failed")
        assert process.stop() == 0
    assert event["detail"] == detail


@pytest.mark.parametrize("arguments", [("--workers", "0"), ("--workers", "1", "--preload")])
@pytest.mark.parametrize("taken", TAKEN.values(), ids=TAKEN.keys())
def test_access_log_and_events_go_on_whatever_becomes_of_standard_error(
    directory: Path, taken: str, arguments: tuple[str, ...]
):
    (directory / "apps.py").write_text(f"{APPS}\n{taken}\n")
    with running_process(
        "serve", "apps:wsgi", *ON_TCP, "--access-log", *arguments, directory=directory
    ) as process:
        assert request(process.address, "/").status == 200
        assert request(process.address, "/fails").status == 500
        process.events.wait(event="application failed")
        # Each thread writes its line after its answer: the second one may be the first to come to it.
        lines = process.events.wait_many(2, event="access")
        assert sorted(it["status"] for it in lines) == [200, 500]
        assert process.stop() == 0


@pytest.mark.parametrize(
    ("log_format", "form", "is_json"),
    [
        ("json", "auto", True),
        ("auto", "auto", True),  # a pipe
        ("text", "auto", False),
        ("json", "combined", False),
        ("text", "json", True),
    ],
)
def test_access_log_is_json_where_the_log_is(
    directory: Path, log_format: str, form: str, is_json: bool
):
    arguments = ("--bind", "unix:app.sock", "--control-socket", "none", "--log-format", log_format)
    with running_process(
        *("serve", "apps:wsgi", *arguments, "--access-log", "--access-log-format", form),
        directory=directory,
    ) as process:
        # It is there when the socket answers.
        while not (directory / "app.sock").exists():
            assert process._process.poll() is None
        assert request(f"unix:{directory}/app.sock", "/here").status == 200
        assert process.stop() == 0
    lines = [it for it in process.events.text().splitlines() if "/here" in it]
    assert len(lines) == 1
    assert lines[0].startswith("{") is is_json
    if is_json:
        assert json.loads(lines[0])["event"] == "access"


@pytest.mark.parametrize("app", ["apps:wsgi", "apps:asgi"])
def test_level_debug_shows_requests_and_options(directory: Path, app: str):
    with running_process(
        "serve", app, *ON_TCP, "--log-level", "debug", "--threads", "3", directory=directory
    ) as process:
        assert request(process.address, "/here?token=secret").status == 200
        event = process.events.wait(event="request")
        options = process.events.wait(event="options that are not the default")
        assert process.stop() == 0
    assert (event["level"], event["method"], event["path"], event["status"]) == (
        *("debug", "GET", "/here"),
        200,
    )
    assert event["bytes"] == 4
    assert options["--threads"] == 3
    assert "--graceful-timeout-seconds" not in options
    assert "secret" not in process.events.text()


def test_at_level_info_there_is_no_line_for_a_request(directory: Path):
    with running_process("serve", "apps:wsgi", *ON_TCP, directory=directory) as process:
        assert request(process.address, "/here").status == 200
        assert process.stop() == 0
    assert "/here" not in process.events.text()


def test_uvloop_that_is_broken_is_said(directory: Path):
    (directory / "uvloop.py").write_text("raise ImportError('libuv.so.1 is not there')\n")
    with running_process("serve", "apps:asgi", *ON_TCP, directory=directory) as process:
        event = process.events.wait(
            event="uvloop is installed and can't be imported: asyncio is used"
        )
        assert process.events.wait(event="worker started")["loop"] == "asyncio"
        assert process.stop() == 0
    assert event["reason"] == "libuv.so.1 is not there"
    with running_process(
        "serve", "apps:asgi", *ON_TCP, "--loop", "uvloop", directory=directory
    ) as process:
        assert process.wait() == 2
    assert "--loop uvloop: it can't be imported: libuv.so.1 is not there" in process.events.text()


TRIED = "upgrade is being tried already: ask again where it fails"

WAITS = """
import pathlib, time

deadline = time.monotonic() + 60
while pathlib.Path("held").exists() and time.monotonic() < deadline:
    time.sleep(0.01)

def app(environ, start_response):
    start_response("200 OK", [])
    return [b""]
"""


def test_upgrade_that_is_asked_for_twice_says_so(tmp_path: Path):
    (tmp_path / "waits.py").write_text(WAITS)
    with running_process(
        "serve", "waits:app", *ON_TCP, "--workers", "1", directory=tmp_path
    ) as process:
        process.wait_listening(1)
        held = tmp_path / "held"
        held.touch()
        deadline = monotonic() + PATIENCE_SECONDS
        # Of two at the same moment, the second may not be seen.
        while not (said := process.events.find(event=TRIED)) and monotonic() < deadline:
            process.signal(signal.SIGUSR2)
            sleep(0.05)  # a flood of them would keep a busy machine from anything else
        held.unlink()
        process.events.wait(event="upgraded")
        assert process.stop() == 0
    assert {it["level"] for it in said} == {"info"}


# What whoever has started a service gets of a start that fails, where its log goes to a file.

FAILING = {
    "the application": ("apps:nothing", 3),
    "the address": ("apps:wsgi", 1),
}


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize("why", FAILING)
def test_a_start_that_fails_says_which_file_says_why(directory: Path, workers: str, why: str):
    app, status = FAILING[why]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = 0 if why == "the application" else taken.getsockname()[1]
        ended, text = run_to_its_end(
            *("serve", app, "--bind", f"127.0.0.1:{port}", "--workers", workers),
            *("--control-socket", "none", "--log-file", "bridge.log"),
            directory=directory,
        )
    assert ended == status
    assert text == (
        f"Error: the start has failed with exit status {status}: bridge.log (--log-file) says why"
    )
    assert "Error: " in (directory / "bridge.log").read_text()


def test_a_log_file_that_can_not_be_opened_is_all_that_is_said(directory: Path):
    status, text = run_to_its_end(
        *("serve", "apps:wsgi", "--bind", "127.0.0.1:0", "--log-file", "missing/bridge.log"),
        directory=directory,
    )
    assert status == 1
    assert text.count("Error: ") == 1
    assert "there is no directory" in text


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_service_that_has_started_keeps_nothing_of_its_starter_open(
    directory: Path, workers: str
):
    """Else ssh would not return before the service ends."""
    control = ("--control-socket", "none") if workers == "0" else ()
    with (directory / "bridge.log").open("w+") as log, contextlib.ExitStack() as stack:
        reader, writer = os.pipe()
        stack.callback(os.close, reader)
        process = stack.enter_context(
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "uwsgibridge", "serve", "apps:wsgi", *control),
                    *("--bind", "127.0.0.1:0", "--workers", workers, "--log-file", "bridge.log"),
                ],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=writer,
                env={**os.environ, "UWSGIBRIDGE_LOG_FORMAT": "json"},
            )
        )
        stack.callback(process.wait, PATIENCE_SECONDS)
        stack.callback(process.terminate)
        os.close(writer)
        ready, _, _ = select.select([reader], [], [], EVENT_SECONDS)
        assert ready, log.read()
        assert os.read(reader, 100) == b""
        assert process.poll() is None
