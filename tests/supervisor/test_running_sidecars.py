"""Sidecars of a whole service, from outside: real processes, real signals, real upgrades."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.bridge_process import BridgeProcess, run_to_its_end, running_process
from tests.log_events import PATIENCE_SECONDS
from tests.other_users import NOBODY, need_root
from tests.processes import wait_gone
from uwsgibridge.control.client import ask

APPLICATION = """
print('{"event": "app: loaded"}', flush=True)
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"one"]
"""

# Tells its beginning and its end, and whether another one runs: as `celery beat` would, it has a file for that.
BEAT = """
import os, signal, sys, time
def end(*_):
    print("ends", os.getpid(), flush=True)
    os.unlink("beat.pid")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
os.close(os.open("beat.pid", os.O_CREAT | os.O_EXCL))
print("begins", os.getpid(), flush=True)
while True: signal.pause()
"""

# Does not end at SIGTERM, and neither does its child.
STUBBORN = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))
child = os.fork()
if child: print("begins", os.getpid(), child, flush=True)
while True: signal.pause()
"""

Start = Callable[..., AbstractContextManager[BridgeProcess]]


@pytest.fixture
def place(directory: Path) -> Path:
    (directory / "site_app.py").write_text(APPLICATION)
    (directory / "beat.py").write_text(BEAT)
    (directory / "stubborn.py").write_text(STUBBORN)
    return directory


def python(script: str) -> str:
    return f"{sys.executable} {script}"


def arguments(*more: str) -> tuple[str, ...]:
    return (
        *("serve", "site_app:app", "--bind", "127.0.0.1:0", "--log-format", "json"),
        *("--workers", "1", "--graceful-timeout-seconds", "10", *more),
    )


@pytest.fixture
def start(place: Path) -> Start:
    def start(*more: str, **environment: str) -> AbstractContextManager[BridgeProcess]:
        return running_process(
            *arguments("--control-socket", str(place / "control"), *more),
            directory=place,
            environment={"PYTHONDONTWRITEBYTECODE": "1", **environment},
        )

    return start


def status(place: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(place / "control", "status")["sidecars"]
    return found


def beats(bridge: BridgeProcess, count: int) -> list[str]:
    """Wait for so many lines of `beat.py`; each is its first word."""
    found = bridge.events.wait_many(count, event="sidecar wrote", stream="stdout")
    return [str(it["text"]).split()[0] for it in found]


def pid_of(event: dict[str, Any], place: int = 1) -> int:
    return int(str(event["text"]).split()[place])


def test_it_runs_beside_the_workers_and_ends_with_them(start: Start, place: Path) -> None:
    with start("--sidecar", python("beat.py")) as bridge:
        begins = bridge.events.wait(event="sidecar wrote")
        name = Path(sys.executable).name
        assert (begins["sidecar"], begins["stream"]) == (name, "stdout")
        [told] = status(place)
        assert told["pid"] == pid_of(begins)
        assert (told["name"], told["command"]) == (name, python("beat.py"))
        assert (told["state"], told["restarts"], told["last_exit"]) == ("running", 0, None)
        assert told["rss_bytes"] > 0
        score = Path(f"/proc/{told['pid']}/oom_score_adj").read_text()
        assert int(score) == min(int(Path("/proc/self/oom_score_adj").read_text()) + 100, 1000)
        assert bridge.stop() == 0
    assert beats(bridge, 2) == ["begins", "ends"]
    steps = [it["event"] for it in bridge.events.find()]
    assert steps.index("sidecar started") > steps.index("app: loaded")
    assert steps.index("sidecar stopped") < len(steps) - 1
    assert not bridge.events.find(level="error")
    assert wait_gone(pid_of(begins), PATIENCE_SECONDS)


def test_one_that_ends_is_started_again(start: Start, place: Path) -> None:
    with start("--sidecar", python("beat.py")) as bridge:
        first = bridge.events.wait(event="sidecar started")["pid"]
        beats(bridge, 1)
        (place / "beat.pid").unlink()
        os.kill(first, signal.SIGKILL)
        ended = bridge.events.wait(event="sidecar ended")
        assert (ended["signal"], ended["pid"]) == ("SIGKILL", first)
        assert ended["output"] == f"begins {first}"
        assert beats(bridge, 2) == ["begins", "begins"]
        [told] = status(place)
        assert (told["restarts"], told["last_exit"]["signal"]) == (1, "SIGKILL")
        assert bridge.stop() == 0


def test_one_that_fails_is_tried_again_later(start: Start, place: Path) -> None:
    (place / "fails.py").write_text("import sys; sys.exit('no broker')")
    with start("--sidecar", python("fails.py")) as bridge:
        later = bridge.events.wait_many(3, event="sidecar starts again later")
        assert [it["in_seconds"] for it in later] == [0.1, 0.2, 0.4]
        ended = bridge.events.wait(event="sidecar ended")
        assert (ended["exit_status"], ended["output"]) == (1, "no broker")
        assert bridge.events.wait(event="sidecar wrote")["stream"] == "stderr"
        assert bridge.stop() == 0


def test_a_reload_restarts_it_after_the_new_workers_are_ready(start: Start) -> None:
    with start("--sidecar", python("beat.py")) as bridge:
        beats(bridge, 1)
        bridge.signal(signal.SIGHUP)
        assert beats(bridge, 3) == ["begins", "ends", "begins"]
        steps = [it.get("text", it["event"]) for it in bridge.events.find()]
        ended = next(it for it in steps if it.startswith("ends"))
        assert steps.index("reloaded") < steps.index(ended)
        assert bridge.stop() == 0
    assert not bridge.events.find(level="error")


def test_a_reload_that_fails_leaves_it_alone(start: Start, place: Path) -> None:
    with start("--sidecar", python("beat.py")) as bridge:
        beats(bridge, 1)
        (place / "site_app.py").write_text("raise RuntimeError('never')")
        bridge.signal(signal.SIGHUP)
        bridge.events.wait(event="reload failed: the old code goes on")
        [told] = status(place)
        assert told["state"] == "running"
        assert bridge.stop() == 0
    assert beats(bridge, 2) == ["begins", "ends"]


def test_one_that_does_not_end_is_killed_with_all_that_it_has_started(
    start: Start, place: Path
) -> None:
    with start("--sidecar", python("stubborn.py"), "--graceful-timeout-seconds", "0.5") as bridge:
        begins = bridge.events.wait(event="sidecar wrote")
        assert bridge.stop() == 0
        killed = bridge.events.wait(event="killing sidecar: it does not end")
        assert killed["option"] == "--graceful-timeout-seconds"
        assert bridge.events.find(event="sidecar wrote", text="asked")
        for number in (1, 2):
            assert wait_gone(pid_of(begins, number), PATIENCE_SECONDS)


def test_a_second_signal_kills_it_at_once(start: Start) -> None:
    with start("--sidecar", python("stubborn.py"), "--graceful-timeout-seconds", "600") as bridge:
        begins = bridge.events.wait(event="sidecar wrote")
        bridge.signal(signal.SIGTERM)
        bridge.events.wait(event="sidecar wrote", text="asked")
        bridge.signal(signal.SIGTERM)
        assert bridge.wait() == 0
        for number in (1, 2):
            assert wait_gone(pid_of(begins, number), PATIENCE_SECONDS)


@pytest.mark.parametrize("form", ["{}", "sh -c '{}; true'"], ids=["direct", "in-a-shell"])
def test_it_is_killed_with_its_supervisor(start: Start, form: str) -> None:
    with start("--sidecar", form.replace("{}", python("stubborn.py"))) as bridge:
        begins = bridge.events.wait(event="sidecar wrote")
        bridge.signal(signal.SIGKILL)
        for number in (1, 2):
            assert wait_gone(pid_of(begins, number), PATIENCE_SECONDS)


def test_an_upgrade_hands_it_on_and_then_restarts_it(start: Start, place: Path) -> None:
    with start("--sidecar", python("beat.py")) as bridge:
        for count in (1, 2):
            beats(bridge, 2 * count - 1)
            bridge.signal(signal.SIGUSR2)
            bridge.events.wait_many(count, event="upgraded")
            assert beats(bridge, 2 * count + 1)[-2:] == ["ends", "begins"]
        assert bridge.events.wait_many(2, event="reloaded")
        [told] = status(place)
        assert (told["state"], told["restarts"]) == ("running", 0)
        last = told["pid"]
        bridge.signal(signal.SIGKILL)  # the lifeline is handed on, too
        assert wait_gone(last, PATIENCE_SECONDS)
    assert not bridge.events.find(level="error")
    pids = [pid_of(it) for it in bridge.events.find(event="sidecar wrote")]
    assert pids[:4] == [pids[0], pids[0], pids[2], pids[2]]


def test_an_upgrade_takes_new_options_and_never_runs_two(place: Path) -> None:
    def write(*sidecars: str) -> None:
        (place / "uwsgibridge.toml").write_text(f"sidecar = {json.dumps(sidecars)}")

    write(python("beat.py"), "sleep 1000")
    with running_process(
        *arguments("--control-socket", str(place / "control")),
        directory=place,
        environment={"PYTHONDONTWRITEBYTECODE": "1"},
    ) as bridge:
        beats(bridge, 1)
        sleeper = next(it["pid"] for it in status(place) if it["name"] == "sleep")
        write(python("beat.py again"))
        bridge.signal(signal.SIGUSR2)
        assert beats(bridge, 3) == ["begins", "ends", "begins"]
        assert wait_gone(sleeper, PATIENCE_SECONDS)
        told = {it["command"]: it["state"] for it in status(place)}
        assert told[python("beat.py again")] == "running"
        assert bridge.stop() == 0
    assert not bridge.events.find(level="error")


def test_an_upgrade_to_a_command_that_is_not_there_is_refused(place: Path) -> None:
    (place / "uwsgibridge.toml").write_text('sidecar = ["sleep 1000"]')
    with running_process(
        *arguments("--control-socket", str(place / "control")), directory=place
    ) as bridge:
        pid = bridge.events.wait(event="sidecar started")["pid"]
        (place / "uwsgibridge.toml").write_text('sidecar = ["no-such-program"]')
        bridge.signal(signal.SIGUSR2)
        failed = bridge.events.wait(
            event="upgrade failed: the program that is installed now does not start"
        )
        assert "there is no program 'no-such-program' on PATH" in failed["output"]
        assert [it["pid"] for it in status(place)] == [pid]
        assert bridge.stop() == 0


def test_an_application_that_does_not_load_starts_none(place: Path) -> None:
    (place / "site_app.py").write_text("raise RuntimeError('never')")
    exit_status, said = run_to_its_end(*arguments("--sidecar", python("beat.py")), directory=place)
    assert exit_status == 3
    assert "begins" not in said


def test_one_that_is_not_there_is_refused_in_a_sentence(place: Path) -> None:
    exit_status, said = run_to_its_end(
        *arguments("--sidecar", "no-such-program -A shop"), directory=place
    )
    assert exit_status == 2
    assert said == (
        "Error: --sidecar 'no-such-program -A shop': there is no program 'no-such-program' on PATH; name it by its "
        "path, or write sh -c '...' for what is a shell's own"
    )


def test_without_a_supervisor_there_is_none(place: Path) -> None:
    exit_status, said = run_to_its_end(
        *arguments("--sidecar", "sleep 1", "--workers", "0"), directory=place
    )
    assert exit_status == 2
    assert "--sidecar needs a supervisor: --workers 1 or more" in said


def test_it_has_no_listening_socket(start: Start, place: Path) -> None:
    script = (
        "import os, stat\n"
        "for it in os.listdir('/proc/self/fd'):\n"
        "    try: mode = os.stat('/proc/self/fd/' + it).st_mode\n"
        "    except OSError: continue\n"
        "    print(it, 'socket' if stat.S_ISSOCK(mode) else 'other', flush=True)\n"
        "print('all', flush=True)\n"
        "import signal; signal.pause()\n"
    )
    (place / "lists.py").write_text(script)
    with start("--sidecar", python("lists.py")) as bridge:
        bridge.events.wait(event="sidecar wrote", text="all")
        lines = [str(it["text"]) for it in bridge.events.find(event="sidecar wrote")]
        assert not [it for it in lines if it.endswith("socket")]
        assert bridge.stop() == 0


def test_the_table_of_ctl_shows_it(start: Start, place: Path) -> None:
    with start("--sidecar", python("beat.py")) as bridge:
        beats(bridge, 1)
        shown = subprocess.run(
            [
                sys.executable,
                "-m",
                "uwsgibridge",
                "ctl",
                "--control-socket",
                str(place / "control"),
                "status",
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE_SECONDS * 3,
        ).stdout
        titles, line = shown.splitlines()[-2:]
        assert titles.split()[:2] == ["PID", "STATE"]
        assert line.split()[1] == "running"
        assert bridge.stop() == 0


# `unshare` makes a process the first one of a world of its own, as in a container.
AS_PROCESS_ONE = """
import os, sys
os.execvp("unshare", ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-m", "uwsgibridge",
    *sys.argv[1:]])
"""


def can_unshare() -> bool:
    command = ("unshare", "--pid", "--fork", "--mount-proc", "true")
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not can_unshare(), reason="needs root and util-linux")
def test_its_status_is_known_where_the_supervisor_reaps_orphans(place: Path) -> None:
    # Until its child has ended, which takes longer than the supervisor lets orphans wait, it is not reaped.
    child = "import os, signal, time; signal.signal(15, lambda *_: (time.sleep(1.5), os._exit(0))); print(1); signal.pause()"
    (place / "fails.py").write_text(
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-uc', {child!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.read(1)\n"
        "sys.exit(7)\n"
    )
    with running_process(
        *arguments("--sidecar", python("fails.py"), "--control-socket", str(place / "control")),
        directory=place,
        program=("-c", AS_PROCESS_ONE),
    ) as bridge:
        assert bridge.events.wait(event="sidecar ended")["exit_status"] == 7
        assert ask(place / "control", "status")["pid"] == 1
        ask(place / "control", "stop")
        assert bridge.wait() == 0


@need_root
def test_it_runs_as_those_who_serve(place: Path) -> None:
    who = "sh -c 'echo $(id -u) $(id -g) $(umask) $(pwd); exec sleep 1000'"
    with running_process(
        *arguments("--sidecar", who, "--group", str(NOBODY), "--umask", "027"),
        directory=place,
        environment={"PYTHONDONTWRITEBYTECODE": "1"},
    ) as bridge:
        line = bridge.events.wait(event="sidecar wrote")["text"]
        assert line == f"0 {NOBODY} 0027 {place}"
        assert bridge.stop() == 0
