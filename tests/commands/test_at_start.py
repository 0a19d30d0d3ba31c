"""--on-start and --on-ready of a whole service, from outside: when they run, and what a failure does."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.bridge_process import BridgeProcess, run_to_its_end, running_process
from tests.log_events import PATIENCE_SECONDS
from tests.other_users import NOBODY, need_root
from uwsgibridge.client import request

APPLICATION = """
import os, sys
print('{"event": "app: loaded"}', flush=True)
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"one"]
"""

Start = Callable[..., AbstractContextManager[BridgeProcess]]

BOTH = pytest.mark.parametrize("workers", ["0", "2"])


def arguments(workers: str, *more: str) -> tuple[str, ...]:
    return (
        *("serve", "site_app:app", "--bind", "127.0.0.1:0", "--log-format", "json"),
        *("--workers", workers, "--graceful-timeout-seconds", "5", *more),
    )


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    return tmp_path


@pytest.fixture
def start(place: Path) -> Start:
    def start(workers: str, *more: str) -> AbstractContextManager[BridgeProcess]:
        return running_process(
            *arguments(workers, *more),
            directory=place,
            environment={"PYTHONDONTWRITEBYTECODE": "1"},
        )

    return start


def python(script: str) -> str:
    return f"exec:{sys.executable} -u -c '{script}'"


def order(bridge: BridgeProcess, *events: str) -> list[str]:
    """Give the order in which some events have come for the first time."""
    found = []
    for event in bridge.events.find():
        if event["event"] in events and event["event"] not in found:
            found.append(event["event"])
    return found


@BOTH
def test_what_is_for_the_start_comes_before_the_application_and_the_other_after_it(
    start: Start, place: Path, workers: str
) -> None:
    with start(
        workers,
        *("--on-start", python('print("first")'), "--on-start", "touch:started"),
        *("--on-ready", python('print("second")'), "--on-ready", "touch:ready"),
    ) as bridge:
        bridge.events.wait(event="command wrote", text="first", stream="stdout")
        bridge.events.wait(event="command wrote", text="second")
        bridge.events.wait(event="file touched", path="ready")
        assert request(bridge.address, "/").body == b"one"
        assert bridge.stop() == 0
    steps = [it.get("text", it["event"]) for it in bridge.events.find() if it["event"] in {
        "command wrote", "app: loaded", "listening",
    }]  # fmt: skip
    assert steps[:2] == ["first", "app: loaded"]
    assert steps.index("second") > steps.index("listening")
    assert (place / "started").exists()


def test_they_run_once_and_not_at_a_reload_or_an_upgrade(start: Start) -> None:
    with start(
        "1", "--on-start", python('print("first")'), "--on-ready", python('print("second")')
    ) as bridge:
        bridge.events.wait(event="command has ended", option="--on-ready")
        bridge.signal(signal.SIGHUP)
        bridge.events.wait(event="reloaded", generation=2)
        bridge.signal(signal.SIGUSR2)
        bridge.events.wait(event="upgraded")
        bridge.events.wait(event="reloaded", generation=3)
        assert bridge.stop() == 0
    for line in ("first", "second"):
        assert len(bridge.events.find(event="command wrote", text=line)) == 1


def test_systemd_is_told_how_long_the_start_may_take(directory: Path) -> None:
    (directory / "site_app.py").write_text(APPLICATION)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(directory / "notify"))
        systemd.settimeout(PATIENCE_SECONDS)
        with running_process(
            *arguments("1", "--on-start", "exec:true", "--on-start", "exec:true"),
            *("--on-start-seconds", "1000", "--lifespan-timeout-seconds", "200"),
            directory=directory,
            environment={"NOTIFY_SOCKET": str(directory / "notify")},
        ) as bridge:
            assert systemd.recv(1000) == b"EXTEND_TIMEOUT_USEC=2205000000"
            assert systemd.recv(1000).startswith(b"READY=1\n")
            assert bridge.stop() == 0


@BOTH
def test_one_that_fails_ends_the_start(place: Path, workers: str) -> None:
    script = 'print("no table"); raise SystemExit(9)'
    status, said = run_to_its_end(
        *arguments(workers, "--on-start", python(script)), directory=place
    )
    assert status == 4
    assert said.endswith(
        f"Error: --on-start {python(script)!r} failed: it ended with exit status 9; the last that it wrote:\nno table"
    )
    assert "app: loaded" not in said


@BOTH
@pytest.mark.parametrize("option", ["--on-start", "--on-ready"])
def test_one_that_is_not_there_is_refused_before_anything_is_run(
    place: Path, workers: str, option: str
) -> None:
    status, said = run_to_its_end(
        *arguments(workers, "--on-start", "touch:never", option, "exec:no-such-program now"),
        directory=place,
    )
    assert status == 2
    assert said.count("\n") == 0
    assert said.startswith(f"Error: {option} 'no-such-program now': there is no program")
    assert not (place / "never").exists()


@BOTH
def test_one_that_takes_too_long_ends_the_start(place: Path, workers: str) -> None:
    script = "import signal; signal.pause()"
    status, said = run_to_its_end(
        *arguments(workers, "--on-start", python(script), "--on-start-seconds", "0.5"),
        directory=place,
    )
    assert status == 4
    assert said.splitlines()[-1].endswith("it took longer than 0.5 s (--on-start-seconds)")


@BOTH
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_one_that_runs_and_the_start_with_it(
    start: Start, workers: str, number: signal.Signals
) -> None:
    script = "import os, signal; print(os.getpid()); signal.pause()"
    with start(workers, "--on-start", python(script)) as bridge:
        pid = int(bridge.events.wait(event="command wrote")["text"])
        bridge.signal(signal.SIGTTIN) if workers != "0" else None
        bridge.signal(number)
        assert bridge.wait() == 0
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not bridge.events.find(event="app: loaded")
    assert bridge.events.find(event="stopped")
    assert "Error" not in bridge.events.text()


@BOTH
def test_a_failure_when_all_is_ready_is_told_and_the_service_goes_on(
    start: Start, workers: str
) -> None:
    script = 'print("cold"); raise SystemExit(1)'
    with start(workers, "--on-ready", python(script)) as bridge:
        failed = bridge.events.wait(event="command failed")
        assert failed["level"] == "error"
        assert (failed["option"], failed["reason"], failed["output"]) == (
            "--on-ready", "it ended with exit status 1", "cold",
        )  # fmt: skip
        assert request(bridge.address, "/").body == b"one"
        assert bridge.stop() == 0


@BOTH
def test_one_that_runs_when_all_is_ready_delays_no_request_and_ends_with_the_service(
    start: Start, workers: str
) -> None:
    script = "import os, signal; print(os.getpid()); signal.pause()"
    with start(workers, "--on-ready", python(script)) as bridge:
        pid = int(bridge.events.wait(event="command wrote")["text"])
        for _ in range(10):
            assert request(bridge.address, "/").body == b"one"
        assert bridge.stop() == 0
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_it_is_run_beside_an_event_loop_of_the_application(place: Path) -> None:
    """There, trio is a guest of asyncio."""
    (place / "site_app.py").write_text(
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan': raise RuntimeError\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'one'})\n"
    )
    script = 'print("second"); import signal; signal.pause()'
    with running_process(
        *arguments("0", "--loop", "asyncio", "--on-ready", python('print("first")')),
        *("--on-ready", python(script)),
        directory=place,
    ) as bridge:
        bridge.events.wait(event="command has ended")
        bridge.events.wait(event="command wrote", text="second")
        assert request(bridge.address, "/").body == b"one"
        assert bridge.stop() == 0
        reason = bridge.events.wait(event="command failed")["reason"]
        assert reason == "it was broken off by a stop or an upgrade"


# The supervisor of another user would start a template anew, and that user may not run this Python.
@need_root
@pytest.mark.parametrize(
    ("workers", "option", "who"),
    [("0", "--user", f"{NOBODY} {NOBODY}"), ("2", "--group", f"0 {NOBODY}")],
)
def test_it_is_run_as_the_user_that_serves(
    directory: Path, workers: str, option: str, who: str
) -> None:
    (directory / "site_app.py").write_text(APPLICATION)
    command = "exec:sh -c 'echo $(id -u) $(id -g) $(umask)'"
    with running_process(
        *arguments(workers, "--on-start", command, option, str(NOBODY), "--umask", "027"),
        directory=directory,
        environment={"PYTHONDONTWRITEBYTECODE": "1"},
    ) as bridge:
        assert bridge.events.wait(event="command wrote")["text"] == f"{who} 0027"
        bridge.wait_listening(1)
        assert bridge.stop() == 0
