"""The supervisor as a process of its own, what no request through Nginx shows: its deadlines, what it leaves."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.bridge_process import BridgeProcess, running_process
from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.client import request
from uwsgibridge.control.client import ask
from uwsgibridge.control.path import default_control_path

# Its shutdown takes longer than all that a worker otherwise has at its end.
APPLICATION = """
import asyncio, signal

async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await asyncio.sleep(1)
    print('{"event": "app: shut down"}', flush=True)
    await send({"type": "lifespan.shutdown.complete"})
"""

# What Python runs first in each process: a supervisor with little patience.
IMPATIENT = """
from uwsgibridge.supervisor import fleet
fleet.END_MARGIN_SECONDS = 0.2
from uwsgibridge.supervisor import health
health._BEAT_SECONDS = 0.1
"""

Start = Callable[..., AbstractContextManager[BridgeProcess]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start one worker of the application."""
    (tmp_path / "site_app.py").write_text(APPLICATION)

    def start(*arguments: str, **environment: str) -> AbstractContextManager[BridgeProcess]:
        return running_process(
            *("serve", "site_app:app", "--bind", "127.0.0.1:0", "--log-format", "json"),
            *("--workers", "1", "--graceful-timeout-seconds", "0.1", *arguments),
            directory=tmp_path,
            environment={"PYTHONDONTWRITEBYTECODE": "1", **environment},
        )

    return start


# The end of a worker.


@pytest.mark.parametrize("what", ["stop", "reload", "fewer"])
def test_a_worker_has_time_for_the_shutdown_of_its_application(
    start: Start, tmp_path: Path, what: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(IMPATIENT)
    with start(PYTHONPATH=str(tmp_path)) as bridge:
        bridge.wait_listening(1)
        if what == "reload":
            bridge.signal(signal.SIGHUP)
        elif what == "fewer":
            bridge.signal(signal.SIGTTIN)
            bridge.events.wait(event="number of workers changed", workers=2)
            bridge.signal(signal.SIGTTOU)
        if what != "stop":
            bridge.events.wait(event="app: shut down")
        assert bridge.stop() == 0
    assert bridge.events.find(event="app: shut down")
    assert not bridge.events.find(event="killing worker: it does not end")
    assert not bridge.events.find(event="worker ended")


def test_a_worker_whose_loop_stands_still_does_not_have_that_time(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(IMPATIENT)
    blocks = APPLICATION.replace("await asyncio.sleep(1)", "__import__('time').sleep(60)")
    (tmp_path / "site_app.py").write_text(blocks)
    with start(PYTHONPATH=str(tmp_path)) as bridge:
        bridge.wait_listening(1)
        assert bridge.stop() == 0
    [killed] = bridge.events.find(event="killing worker: it does not end")
    assert killed["option"] == "--graceful-timeout-seconds"


def test_without_a_shutdown_there_is_no_such_time(start: Start, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(IMPATIENT)
    held = "    import time; time.sleep(30)\n"
    (tmp_path / "site_app.py").write_text(f"def stay():\n{held}\n{APPLICATION}")
    with start(
        "--lifespan", "off", "--on-worker-exit", "site_app:stay", PYTHONPATH=str(tmp_path)
    ) as bridge:
        bridge.wait_listening(1)
        assert bridge.stop() == 0
    [ended] = bridge.events.find(event="worker ended")
    assert ended["signal"] == "SIGKILL"


# A reload that an application asks for as it does under gunicorn.

ASKS = """
import os, signal

def app(environ, start_response):
    os.kill(os.getppid(), signal.SIGHUP)
    start_response("200 OK", [])
    return [b""]
"""


def test_an_application_reloads_by_a_signal_to_its_parent(start: Start, tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(ASKS)
    with start() as bridge:
        for generation in (2, 3):  # the first template was forked, the next one started anew
            assert request(bridge.address).status == 200
            bridge.events.wait(event="reloaded", generation=generation)
        assert bridge.stop() == 0


# What went wrong.

FAILS = """
def app(environ, start_response):
    raise RuntimeError("deliberately")
"""


def test_what_went_wrong_is_told_also_of_workers_that_have_ended(
    tmp_path: Path,
) -> None:
    (tmp_path / "fails.py").write_text(FAILS)
    control = tmp_path / "control.sock"
    with running_process(
        *("serve", "--mount", "/fails=fails:app", "--bind", "127.0.0.1:0", "--workers", "1"),
        *("--control-socket", str(control), "--log-format", "json"),
        directory=tmp_path,
    ) as bridge:
        address = bridge.address

        def provoke() -> None:
            assert request(address, "/fails").status == 500
            assert request(address, "/elsewhere").status == 404
            assert request(address, "/fails", vars={"CONTENT_LENGTH": "x"}).status == 400

        def told(it: dict[str, Any]) -> tuple[object, ...]:
            return tuple(it[name] for name in ("app_errors", "client_gone", "refused"))

        provoke()
        status = ask(control, "status")
        reasons = {"not_mounted": 1, "invalid_content_length": 1}
        assert [told(it) for it in status["workers"]] == [(1, 0, reasons)]
        assert told(status) == (1, 0, reasons)
        assert ask(control, "reload", timeout_seconds=PATIENCE_SECONDS)["generation"] == 2
        bridge.events.wait(event="generation has ended", generation=1)
        provoke()
        status = ask(control, "status")
        assert [told(it) for it in status["workers"]] == [(1, 0, reasons)]
        assert told(status) == (2, 0, {"not_mounted": 2, "invalid_content_length": 2})
        assert bridge.stop() == 0


# What it leaves, and what it finds.


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "t"
    directory.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return directory


def test_the_control_sockets_of_the_dead_are_removed_at_the_next_start(
    start: Start, temporary: Path
) -> None:
    def path_of(bridge: BridgeProcess) -> Path:
        path = default_control_path(bridge.pid)
        assert path is not None
        return path

    def sockets() -> set[Path]:
        return set((temporary / f"uwsgibridge-{os.geteuid()}").iterdir())

    options = {"TMPDIR": str(temporary)}
    with start(**options) as dead:
        dead.wait_listening(1)
        dead.signal(signal.SIGKILL)
        assert dead.wait() == -signal.SIGKILL
        assert sockets() == {path_of(dead)}
    with start(**options) as first, start(**options) as second:
        for bridge in (first, second):
            bridge.wait_listening(1)
        assert sockets() == {path_of(first), path_of(second)}
        assert (first.stop(), second.stop()) == (0, 0)
    assert list(temporary.iterdir()) == []


# PYTHONINSPECT, which an image may set: Python is to go on with a prompt at its end.

AT_EXIT = """
import atexit, threading

atexit.register(print, '{"event": "app: at exit"}')
threading.Thread(target=threading.main_thread().join).start()

def app(environ, start_response):
    start_response("200 OK", [])
    return [b""]
"""


@pytest.mark.parametrize("options", [(), ("--preload",)])
def test_no_process_begins_a_prompt_in_place_of_its_end(
    start: Start, tmp_path: Path, options: tuple[str, ...]
) -> None:
    (tmp_path / "site_app.py").write_text(AT_EXIT)
    with start(*options, PYTHONINSPECT="1") as bridge:
        bridge.wait_listening(1)
        bridge.signal(signal.SIGHUP)
        bridge.events.wait(event="generation has ended")
        assert bridge.stop() == 0
    assert not bridge.events.find(level="error")
    assert not bridge.events.other_text()
    # Of two workers, and of their templates where these have the application.
    assert len(bridge.events.find(event="app: at exit")) == (4 if options else 2)
