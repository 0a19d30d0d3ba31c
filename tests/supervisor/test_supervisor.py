"""The supervisor as a process of its own, what no request through Nginx shows: its deadlines, what it leaves."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.bridge_process import BridgeProcess, running_process
from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.client import request
from uwsgibridge.control.client import ControlConnection, ControlError, ask
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
    assert re.search(r'site_app\.py", line [0-9]+ in app', killed["stack"])


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


# A start that takes long.

AT_IMPORT = """
import pathlib, time

while not pathlib.Path("go").exists():
    time.sleep(0.01)

def app(environ, start_response):
    start_response("204 No Content", [])
    return []
"""
AT_STARTUP = """
import asyncio, pathlib

async def app(scope, receive, send):
    await receive()
    while not pathlib.Path("go").exists():
        await asyncio.sleep(0.01)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
"""
EARLY = """
from uwsgibridge.supervisor import slow_start
slow_start.FIRST_SECONDS = 0.1
"""


@pytest.fixture
def slow(tmp_path: Path) -> Callable[..., AbstractContextManager[BridgeProcess]]:
    """Start an application that is not ready before there is a file."""
    (tmp_path / "sitecustomize.py").write_text(EARLY)

    def start(text: str, *arguments: str) -> AbstractContextManager[BridgeProcess]:
        (tmp_path / "slow_app.py").write_text(text)
        return running_process(
            *(
                "serve",
                "slow_app:app",
                "--bind",
                "127.0.0.1:0",
                "--log-format",
                "json",
                "--workers",
                "2",
            ),
            *("--control-socket", str(tmp_path / "control.sock"), *arguments),
            directory=tmp_path,
            environment={"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tmp_path)},
        )

    return start


@pytest.mark.parametrize(
    ("text", "arguments"),
    [(AT_IMPORT, ()), (AT_IMPORT, ("--preload",)), (AT_STARTUP, ())],
    ids=["import", "preload", "startup"],
)
def test_a_start_that_takes_long_is_told(
    text: str,
    arguments: tuple[str, ...],
    slow: Callable[..., AbstractContextManager[BridgeProcess]],
    tmp_path: Path,
) -> None:
    with slow(text, *arguments) as bridge:
        event = "still starting: workers are not ready yet"
        first = bridge.events.wait(event=event)
        assert (first["ready"], first["wanted"], first["generation"]) == (0, 2, 1)
        bridge.events.wait_many(2, event=event)
        if text == AT_IMPORT and not arguments:
            # Each comes after as long a time again. At the first ones, no worker may be there yet, or be that far.
            told = (bridge.events.wait_many(it, event=event)[-1] for it in range(1, 9))
            assert any("slow_app.py" in it.get("stack", "") for it in told)
        status = ask(tmp_path / "control.sock", "status")
        assert (status["state"], status["generation"]) == ("starting", 1)
        (tmp_path / "go").touch()
        bridge.wait_listening(1)
        assert ask(tmp_path / "control.sock", "status")["state"] == "running"
        count = len(bridge.events.find(event=event))
        assert bridge.stop() == 0
        assert len(bridge.events.find(event=event)) == count


@contextmanager
def reload_asked_early(bridge: BridgeProcess, control: Path) -> Iterator[Future[Any]]:
    """Ask for a reload while the first workers start; give what the answer comes in."""
    bridge.events.wait(event="still starting: workers are not ready yet")
    with ControlConnection(control) as connection, ThreadPoolExecutor(1) as threads:
        asked = threads.submit(connection.ask, "reload", timeout_seconds=PATIENCE_SECONDS)
        bridge.events.wait(event="control command")
        yield asked


def test_a_command_that_needs_workers_waits_for_them(
    slow: Callable[..., AbstractContextManager[BridgeProcess]], tmp_path: Path
) -> None:
    with slow(AT_IMPORT) as bridge:
        with reload_asked_early(bridge, tmp_path / "control.sock") as asked:
            (tmp_path / "go").touch()
            assert asked.result(PATIENCE_SECONDS)["generation"] == 2
        assert bridge.stop() == 0


def test_a_command_that_needs_workers_is_refused_where_there_will_be_none(
    slow: Callable[..., AbstractContextManager[BridgeProcess]], tmp_path: Path
) -> None:
    with slow(AT_IMPORT) as bridge:
        with reload_asked_early(bridge, tmp_path / "control.sock") as asked:
            assert ask(tmp_path / "control.sock", "stop") == {"ok": True, "stopping": True}
            with pytest.raises(ControlError):
                asked.result(PATIENCE_SECONDS)
        assert bridge.wait() == 0
    assert not (tmp_path / "control.sock").exists()


def test_a_start_that_fails_leaves_no_directory_of_control_sockets(
    temporary: Path, tmp_path: Path
) -> None:
    (tmp_path / "fails_app.py").write_text("1 / 0")
    with running_process(
        *("serve", "fails_app:app", "--bind", "127.0.0.1:0", "--workers", "1"),
        directory=tmp_path,
        environment={"TMPDIR": str(temporary)},
    ) as bridge:
        assert bridge.wait() != 0
    assert list(temporary.iterdir()) == []


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
