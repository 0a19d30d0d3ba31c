"""New code in the place of old, and a new supervisor in the place of the old one, with nothing lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from time import monotonic

import pytest

from integration.gate import Gate
from integration.process_tree import everybody, family, settle
from integration.workers import (
    EVERY_INTERFACE,
    EVERY_SOCKET,
    PATIENCE_SECONDS,
    Load,
    distinct_workers,
    fetch,
    workers,
    write,
)
from tests.processes import wait_gone
from uwsgibridge.control.client import ControlConnection, ask
from uwsgibridge.testing import LocalStack, LogEvent, event_with

VERSIONS = ["one", "two", "three", "four", "five"]

RELOADED = event_with(event="reloaded")
RELOAD_FAILED = event_with(event="reload failed: the old code goes on")
UPGRADED = event_with(event="upgraded")
UPGRADE_FAILED = event_with(
    event="upgrade failed: the program that is installed now does not start"
)

BROKEN = "raise RuntimeError('not today')\n"

# A rehearsal of the new program, and its real start.
REHEARSAL = "UWSGIBRIDGE_REHEARSAL"
HERITAGE = "UWSGIBRIDGE_HERITAGE_FD"


@pytest.fixture
def control(tmp_path: Path) -> Path:
    """Where the supervisor is asked."""
    return tmp_path / "control.sock"


class Change:
    """Something that is to happen to a stack; what its log says from then on can be waited for.

    Args:
        stack: that it happens to.
        number: of the signal that it begins with.
    """

    def __init__(self, stack: LocalStack, number: int | None = None) -> None:
        self._stack = stack
        self._since = len(stack.log_events())
        self._old = everybody(stack.pid)
        if number is not None:
            stack.bridge.signal(number)

    def wait(self, predicate: Callable[[LogEvent], bool]) -> LogEvent:
        """Wait for a log event."""
        return self._stack.wait_for_event(
            predicate, since=self._since, timeout_seconds=PATIENCE_SECONDS
        )

    def wait_replaced(self) -> None:
        """Wait until there are new workers, and none of the processes that there were."""
        self.wait(RELOADED)
        assert all(wait_gone(pid, PATIENCE_SECONDS) for pid in self._old)


def reload(stack: LocalStack) -> Change:
    return Change(stack, signal.SIGHUP)


def upgrade(stack: LocalStack) -> Change:
    return Change(stack, signal.SIGUSR2)


def ctl(control: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "uwsgibridge", "ctl", "--control-socket", str(control), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def versions_now(stack: LocalStack) -> set[str]:
    with Load(stack.url) as load:
        pass
    return set(load.seen)


def socket_file(stack: LocalStack) -> tuple[int, int] | None:
    """Identify the file that Nginx connects to, if it is one."""
    if not stack.address.startswith("unix:"):
        return None
    found = Path(stack.address.removeprefix("unix:")).stat()
    return found.st_dev, found.st_ino


# Reloads, and an upgrade: what both have to hold.


@EVERY_SOCKET
@EVERY_INTERFACE
def test_nothing_is_lost_under_load(tmp_path, control, kind_of_socket, interface):
    with workers(tmp_path, kind_of_socket, interface, "--control-socket", str(control)) as stack:
        files, listening = settle(stack.pid, control, 2), socket_file(stack)
        changed_at: list[float] = []
        with Load(stack.url, threads=16, pause_seconds=0.05) as load:
            for version, change in zip(
                VERSIONS[1:], [reload, reload, reload, upgrade], strict=True
            ):
                write(tmp_path, version)
                change(stack).wait_replaced()
                changed_at.append(monotonic())
        assert versions_now(stack) == {"five"}
        settle(stack.pid, control, 2, files)
        assert socket_file(stack) == listening
        assert "upstream" not in stack.nginx_log
        everyone = everybody(stack.pid)
        assert stack.stop() == 0
        assert all(wait_gone(pid, 0) for pid in everyone)
    assert set(load.seen) <= set(VERSIONS)
    assert load.seen["one"] > 0
    for outcome in load.outcomes:
        # Since the old processes are gone, nobody answers with what they had.
        assert VERSIONS.index(outcome.what) >= sum(at < outcome.begun_at for at in changed_at)


@EVERY_INTERFACE
def test_a_long_request_outlives_a_reload_an_upgrade_and_a_stop(tmp_path, interface):
    with (
        Gate(tmp_path) as gate,
        workers(
            tmp_path,
            "unix",
            interface,
            first=f"def wait(): {gate.code}\n",
            graceful_timeout_seconds=PATIENCE_SECONDS,
        ) as stack,
        ThreadPoolExecutor() as pool,
    ):
        held = pool.submit(fetch, f"{stack.url}/held")
        gate.wait_arrival()
        for version, change in (("two", reload), ("three", upgrade)):
            write(tmp_path, version)
            change(stack).wait(RELOADED)
        Change(stack, signal.SIGTERM).wait(event_with(event="stopping: running requests may end"))
        gate.open()
        version, pid = held.result(PATIENCE_SECONDS)
        assert version == "one"
        assert wait_gone(pid, PATIENCE_SECONDS)
        assert stack.bridge.wait_ended(PATIENCE_SECONDS) == 0


# Reloads.


def test_a_reload_that_is_asked_for_during_a_reload_is_not_lost(tmp_path, control):
    with (
        Gate(tmp_path) as gate,
        workers(tmp_path, "unix", "wsgi", "--control-socket", str(control)) as stack,
    ):
        write(tmp_path, "two", gate.code)
        first = reload(stack)
        gate.wait_arrival()
        write(tmp_path, "three")
        second = reload(stack)
        assert ask(control, "status")["state"] == "reloading"
        gate.open()
        first.wait(event_with(event="reloaded", generation=2))
        second.wait(event_with(event="reloaded", generation=3))
        second.wait_replaced()
        assert versions_now(stack) == {"three"}


def test_ctl_reload_waits_for_what_comes_of_it(tmp_path, control):
    with workers(tmp_path, "unix", "wsgi", "--control-socket", str(control)) as stack:
        write(tmp_path, "two")
        change = Change(stack)
        done = ctl(control, "reload")
        assert (done.returncode, done.stderr) == (0, "")
        change.wait_replaced()
        assert versions_now(stack) == {"two"}

        write(tmp_path, "three", BROKEN)
        with Load(stack.url) as load:
            failed = ctl(control, "reload")
        assert failed.returncode == 1
        assert "the new code does not come up, the old goes on" in failed.stderr
        assert stack.bridge_log.count("RuntimeError: not today") == 1
        assert set(load.seen) == {"two"}

        write(tmp_path, "four")
        change = Change(stack)
        assert ctl(control, "reload").returncode == 0
        change.wait_replaced()
        assert versions_now(stack) == {"four"}


def test_a_touched_file_reloads(tmp_path, control):
    touched = tmp_path / "touched"
    with workers(
        tmp_path,
        *("unix", "wsgi", "--touch-reload", str(touched), "--control-socket", str(control)),
    ) as stack:
        ask(control, "status")  # all is watched
        change = Change(stack)
        write(tmp_path, "two")
        touched.touch()
        change.wait_replaced()
        assert versions_now(stack) == {"two"}


def test_changed_code_reloads_and_excluded_code_does_not(tmp_path, control):
    with workers(
        tmp_path,
        *("unix", "wsgi", "--reload", "--reload-exclude", "generated_*"),
        *("--control-socket", str(control)),
    ) as stack:
        ask(control, "status")  # all is watched
        change = Change(stack)
        (tmp_path / "generated_code.py").touch()
        write(tmp_path, "two")
        (tmp_path / "generated_more.py").touch()
        change.wait_replaced()
        assert versions_now(stack) == {"two"}
        reasons = [
            str(it["reason"])
            for it in stack.log_events()
            if it["event"] == "reloading: new workers come up first"
        ]
    assert "versioned.py" in reasons[-1]
    assert not any("generated" in it for it in reasons)


# As applications do that know no other way to be told of a stop.
TAKES_SIGNALS = """
import os
import signal


def take(number, frame):
    print("taken by the application", flush=True)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    signal.signal(signal.SIGTERM, take)  # a library may do so at its first use
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served by %d" % os.getpid()})
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_workers_whose_application_takes_the_signal_are_replaced_and_stop(tmp_path, loop):
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    (tmp_path / "takes_signals.py").write_text(TAKES_SIGNALS)
    with LocalStack(
        "takes_signals:app", app_dir=tmp_path, loop=loop, serve_args=("--workers", "1")
    ) as stack:
        with urllib.request.urlopen(stack.url, timeout=20) as answer:
            assert answer.read().startswith(b"served by")
        change = reload(stack)
        change.wait_replaced()
        change.wait(
            event_with(
                event="stopping: running requests may end",
                reason="no SIGTERM has come: the application may have taken it",
            )
        )
        with urllib.request.urlopen(stack.url, timeout=20) as answer:
            assert answer.read().startswith(b"served by")
        assert stack.stop() == 0
    assert not [it for it in stack.log_events() if it.get("level") == "error"]


# Each worker notes its beginning and its end.
CENSUS = """
from pathlib import Path

def note(sign):
    with Path(__file__).with_name("census").open("a") as file:
        file.write(f"{sign}1\\n")

def born(): note("+")
def gone(): note("-")
"""


@pytest.mark.parametrize(("mode", "most"), [("all", 4), ("chain", 3)])
def test_workers_that_there_are_at_once(tmp_path, mode, most):
    (tmp_path / "counting.py").write_text(CENSUS)
    with (
        workers(
            tmp_path,
            *("unix", "wsgi", "--reload-mode", mode),
            *("--on-fork", "counting:born", "--on-worker-exit", "counting:gone"),
        ) as stack,
        Load(stack.url) as load,
    ):
        write(tmp_path, "two")
        reload(stack).wait_replaced()
        load.stop()
        assert versions_now(stack) == {"two"}
    steps = [int(it) for it in (tmp_path / "census").read_text().split()]
    assert max(accumulate(steps)) == most
    assert sum(steps) == 0
    assert set(load.seen) <= {"one", "two"}


def test_a_chain_whose_first_link_fails_takes_no_worker_away(tmp_path):
    with workers(tmp_path, "unix", "wsgi", "--reload-mode", "chain") as stack:
        [old] = family(stack.pid).values()
        write(tmp_path, "two", BROKEN)
        with Load(stack.url) as load:
            reload(stack).wait(RELOAD_FAILED)
        assert set(load.seen) == {"one"}
        assert stack.bridge_log.count("RuntimeError: not today") == 1
        assert distinct_workers(stack, 2) == old


@pytest.mark.parametrize("mode", ["all", "chain"])
def test_a_worker_that_is_killed_during_a_reload_is_replaced_meanwhile(tmp_path, mode):
    with (
        Gate(tmp_path) as gate,
        # Preloaded: what replaces it has the old code, whatever is on the disk by now.
        workers(tmp_path, "unix", "wsgi", "--preload", "--reload-mode", mode) as stack,
    ):
        write(tmp_path, "two", gate.code)
        change = reload(stack)
        gate.wait_arrival()
        victim = fetch(stack.url)[1]
        os.kill(victim, signal.SIGKILL)
        change.wait(event_with(event="worker ended", worker=victim))
        replaced = distinct_workers(stack, 2)
        assert len(replaced) == 2
        assert victim not in replaced
        gate.open()
        change.wait_replaced()
        assert all(wait_gone(pid, PATIENCE_SECONDS) for pid in replaced)
        assert versions_now(stack) == {"two"}


@pytest.mark.parametrize("mode", ["all", "chain"])
def test_a_new_worker_that_is_killed_during_a_reload_is_replaced(tmp_path, control, mode):
    with (
        Gate(tmp_path) as gate,
        workers(
            tmp_path, *("unix", "wsgi", "--reload-mode", mode, "--control-socket", str(control))
        ) as stack,
    ):
        # The first one of the new ones comes up at once, the others at the gate's opening.
        write(
            tmp_path,
            "two",
            f"try: open(__file__ + '.first', 'x').close()\nexcept FileExistsError: {gate.code}\n",
        )
        change = reload(stack)
        gate.wait_arrival()
        [victim] = (
            it["pid"]
            for it in ask(control, "status")["workers"]
            if (it["generation"], it["state"]) == (2, "ready")
        )
        os.kill(victim, signal.SIGKILL)
        change.wait(event_with(event="worker ended", worker=victim))
        gate.open()
        change.wait_replaced()
        assert len(distinct_workers(stack, 2)) == 2
        assert versions_now(stack) == {"two"}


# The second worker that loads it waits.
SECOND_WAITS = """
for number in range(100):
    try:
        open(f"{__file__}.{number}", "x").close()
        break
    except FileExistsError:
        pass
if number == 1:
    GATE
"""


def test_new_workers_that_crash_again_and_again_during_a_reload_come_after_longer(
    tmp_path, control
):
    with (
        Gate(tmp_path) as gate,
        workers(tmp_path, "unix", "wsgi", "--control-socket", str(control)) as stack,
    ):
        write(tmp_path, "two", SECOND_WAITS.replace("GATE", gate.code))
        change = reload(stack)
        gate.wait_arrival()
        for _ in range(6):
            victim = wait_for_new_worker(control)
            os.kill(victim, signal.SIGKILL)
            change.wait(event_with(event="worker ended", worker=victim))
        event = change.wait(lambda it: it["event"] == "next worker starts later")
        assert event["in_seconds"] == 0.1
        assert str(event["reason"]).startswith("6 workers in a row")
        gate.open()
        change.wait_replaced()
        assert versions_now(stack) == {"two"}


def wait_for_new_worker(control: Path) -> int:
    """Ask until a worker of the second generation is ready."""
    deadline = monotonic() + PATIENCE_SECONDS
    with ControlConnection(control) as operator:
        while monotonic() < deadline:
            for it in operator.ask("status")["workers"]:
                if (it["generation"], it["state"]) == (2, "ready"):
                    assert isinstance(it["pid"], int)
                    return it["pid"]
    raise AssertionError("no new worker is ready")


# Upgrades in place.


def test_upgrade_reads_the_options_anew_and_is_refused_where_they_are_wrong(tmp_path):
    options = tmp_path / "options.toml"
    options.write_text("workers_min = 2\nworkers_max = 2\n")
    with workers(tmp_path, "unix", "wsgi", "--config", str(options)) as stack:
        everyone = everybody(stack.pid)
        for wrong, complaint in (
            ("workers_mni = 3", "there is no option 'workers_mni'"),
            ('user = "nobody-here"', "there is no such user"),
            ('reload = true\nreload_dir = ["nowhere"]', "there is no directory"),
        ):
            options.write_text(wrong)
            with Load(stack.url) as load:
                event = upgrade(stack).wait(UPGRADE_FAILED)
            assert event["exit_status"] == 2
            assert complaint in str(event["output"])
            assert set(load.seen) == {"one"}
            assert everybody(stack.pid) == everyone

        options.write_text("workers_min = 3\nworkers_max = 3\n")
        upgrade(stack).wait_replaced()
        assert len(distinct_workers(stack, 3)) == 3


def test_upgrade_with_an_application_that_fails_keeps_the_old_workers(tmp_path, control):
    with workers(tmp_path, "unix", "wsgi", "--control-socket", str(control)) as stack:
        [old] = family(stack.pid).values()
        write(tmp_path, "two", BROKEN)
        with Load(stack.url) as load:
            event = upgrade(stack).wait(UPGRADE_FAILED)
        assert set(load.seen) == {"one"}
        assert event["exit_status"] == 3
        assert "RuntimeError: not today" in str(event["output"])
        settle(stack.pid, control, 2)
        assert distinct_workers(stack, 2) == old
        write(tmp_path, "three")
        upgrade(stack).wait_replaced()
        assert versions_now(stack) == {"three"}


def test_an_upgrade_mends_what_can_not_fork_any_more(tmp_path):
    with workers(tmp_path) as stack:
        [(template, old)] = family(stack.pid).items()
        write(tmp_path, "two", BROKEN)
        since = len(stack.log_events())
        os.kill(template, signal.SIGKILL)
        stack.wait_for_event(RELOAD_FAILED, since=since, timeout_seconds=PATIENCE_SECONDS)
        assert distinct_workers(stack, 2) == old
        write(tmp_path, "three")
        upgrade(stack).wait_replaced()
        # Children of nobody here any more, but known.
        assert all(wait_gone(pid, PATIENCE_SECONDS) for pid in old)
        assert versions_now(stack) == {"three"}


def test_a_worker_that_was_asked_for_before_an_upgrade_comes_after_it(tmp_path, control):
    with workers(tmp_path, "unix", "wsgi", "--control-socket", str(control)) as stack:
        files = settle(stack.pid, control, 2)
        [template] = family(stack.pid)
        os.kill(template, signal.SIGSTOP)
        change = Change(stack, signal.SIGTTIN)
        change.wait(event_with(event="number of workers changed", workers=3))
        stack.bridge.signal(signal.SIGUSR2)
        change.wait(UPGRADED)
        # Where the upgrade took its time, the template that stood still was killed meanwhile.
        with contextlib.suppress(ProcessLookupError):
            os.kill(template, signal.SIGCONT)
        change.wait(RELOADED)
        # There are as many workers as the options say.
        settle(stack.pid, control, 2, files)


@EVERY_SOCKET
def test_an_upgrade_during_an_upgrade_comes_after_it(tmp_path, control, kind_of_socket):
    with (
        Gate(tmp_path) as gate,
        workers(tmp_path, kind_of_socket, "wsgi", "--control-socket", str(control)) as stack,
    ):
        files, listening = settle(stack.pid, control, 2), socket_file(stack)
        loads = tmp_path / "loads"
        # The first one is the rehearsal's.
        write(
            tmp_path,
            "two",
            f"import os\nopen({str(loads)!r}, 'a').write('.')\n"
            f"if os.path.getsize({str(loads)!r}) == 2: {gate.code}\n",
        )
        first = upgrade(stack)
        gate.wait_arrival()
        second = upgrade(stack)
        second.wait(lambda event: str(event["event"]).startswith("upgrad"))
        assert fetch(stack.url)[0] == "one"
        gate.open()
        first.wait(RELOADED)
        second.wait(UPGRADED)
        second.wait(event_with(event="reloaded", generation=3))
        second.wait_replaced()
        assert versions_now(stack) == {"two"}
        settle(stack.pid, control, 2, files)
        assert socket_file(stack) == listening


def test_where_no_process_can_be_started_the_old_ones_go_on(tmp_path, control):
    python = tmp_path / "python"
    # The program that new processes are made with, which goes when an upgrade has been tried out.
    (tmp_path / "sitecustomize.py").write_text(
        f"import os, sys\nsys.executable = {str(python)!r}\n"
        f"if {REHEARSAL!r} in os.environ: import atexit; atexit.register(os.unlink, sys.executable)\n"
    )

    def install() -> None:
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o700)

    install()
    with workers(
        tmp_path,
        *("unix", "wsgi", "--control-socket", str(control)),
        environment={"PYTHONPATH": str(tmp_path)},
    ) as stack:
        files, everyone = settle(stack.pid, control, 2), everybody(stack.pid)
        write(tmp_path, "two")
        change = upgrade(stack)
        change.wait(event_with(event="upgrade failed: nothing can be started"))
        change.wait(event_with(event="reload failed: no process can be started"))
        assert versions_now(stack) == {"one"}
        settle(stack.pid, control, 2, files)
        assert everybody(stack.pid) == everyone
        install()
        reload(stack).wait_replaced()
        settle(stack.pid, control, 2, files)
        assert versions_now(stack) == {"two"}
        assert "Traceback" not in stack.bridge_log


@pytest.mark.parametrize("moment", [REHEARSAL, HERITAGE, "new workers"])
def test_a_stop_during_an_upgrade_stops(tmp_path, moment):
    with (
        Gate(tmp_path) as gate,
        workers(tmp_path, environment={"PYTHONPATH": str(tmp_path)}) as stack,
    ):
        if moment == "new workers":
            write(tmp_path, "two", gate.code)
        else:
            # What Python runs first in each new process; variables tell those of an upgrade.
            (tmp_path / "sitecustomize.py").write_text(
                f"import os\nif {moment!r} in os.environ: {gate.code}\n"
            )
        change = upgrade(stack)
        gate.wait_arrival()
        everyone = everybody(stack.pid)
        stack.bridge.signal(signal.SIGTERM)
        if moment != HERITAGE:
            change.wait(event_with(event="stopping: running requests may end", reason="SIGTERM"))
        gate.open()
        assert stack.bridge.wait_ended(PATIENCE_SECONDS) == 0
        assert all(wait_gone(pid, 0) for pid in everyone)
        assert socket_file_is_gone(stack)
        assert "Traceback" not in stack.bridge_log


def test_a_stop_does_not_wait_for_the_rehearsal_of_an_upgrade(tmp_path):
    with (
        Gate(tmp_path) as gate,
        workers(tmp_path, environment={"PYTHONPATH": str(tmp_path)}) as stack,
    ):
        (tmp_path / "sitecustomize.py").write_text(
            f"import os\nif {REHEARSAL!r} in os.environ: {gate.code}\n"
        )
        upgrade(stack)
        gate.wait_arrival()  # and nobody opens it
        everyone = everybody(stack.pid)
        assert len(everyone) == 4
        stack.bridge.signal(signal.SIGTERM)
        assert stack.bridge.wait_ended(10) == 0
        assert all(wait_gone(pid, 0) for pid in everyone)
        assert "upgrade failed" not in stack.bridge_log


def socket_file_is_gone(stack: LocalStack) -> bool:
    return not Path(stack.address.removeprefix("unix:")).exists()
