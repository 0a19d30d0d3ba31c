"""An upgrade in place to an installation that is broken: it is never begun, and what serves goes on."""

from __future__ import annotations

import compileall
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import uwsgibridge
from integration.process_tree import everybody, open_files, settle
from integration.workers import (
    EVERY_SOCKET,
    PATIENCE_SECONDS,
    Load,
    fetch,
    workers,
    write,
)
from tests.processes import wait_gone
from uwsgibridge.control.client import ask
from uwsgibridge.testing import LocalStack, event_with

FAILED = event_with(event="upgrade failed: the program that is installed now does not start")

RAISE = "raise RuntimeError('broken today')\n"
MISSING = None

# What becomes of a file of the installation, and what the log has to say about it.
BROKEN: dict[str, tuple[str, str | None, str]] = {
    "a missing module of the supervisor": (
        "uwsgibridge/supervisor/health.py", MISSING, "uwsgibridge.supervisor.health",
    ),
    "a syntax error in the supervisor": (
        "uwsgibridge/supervisor/supervisor.py", "def (\n", "SyntaxError",
    ),
    "a raise in the supervisor": ("uwsgibridge/supervisor/fleet.py", RAISE, "broken today"),
    "no template": ("uwsgibridge/worker/template.py", MISSING, "uwsgibridge.worker.template"),
    "a template that ends at once": ("uwsgibridge/worker/template.py", "", ""),
    "a syntax error in the template": (
        "uwsgibridge/worker/template.py", "def (\n", "SyntaxError",
    ),
    "a missing module of the worker": (
        "uwsgibridge/worker/worker.py", MISSING, "uwsgibridge.worker.worker",
    ),
    "a raise in the worker": ("uwsgibridge/worker/listener.py", RAISE, "broken today"),
    "a worker that fails as it runs": (
        "uwsgibridge/worker/process_end.py", "import os\nos._exit(7)\n", "",
    ),
    "a name that is not there": ("uwsgibridge/link/messages.py", "", "ImportError"),
    "no package": ("uwsgibridge/__init__.py", RAISE, "broken today"),
    "no program": ("uwsgibridge/__main__.py", MISSING, "uwsgibridge"),
    "a program that does nothing": ("uwsgibridge/__main__.py", "", "without having done anything"),
    "a dependency that does not load": ("trio/__init__.py", RAISE, "broken today"),
    "a dependency that another one needs": ("outcome/__init__.py", "", "outcome"),
}  # fmt: skip


@contextlib.contextmanager
def broken(file: Path, text: str | None) -> Iterator[None]:
    before = file.read_bytes() if file.exists() else None
    if text is None:
        file.unlink()
    else:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    try:
        yield
    finally:
        if before is not None:
            file.write_bytes(before)
        else:
            shutil.rmtree(file.parent)


def installation(directory: Path) -> Path:
    """Make a copy of the package that may be broken; Python takes it before the other one."""
    site = directory / "site"
    package = site / "uwsgibridge"
    shutil.copytree(
        Path(uwsgibridge.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    # The processes write no bytecode: without this, each of them would compile the whole package.
    assert compileall.compile_dir(package, quiet=1)
    return site


# The others fail before the new program has read `--preload`.
BROKEN_BELOW_THE_SUPERVISOR = {
    kind: row for kind, row in BROKEN.items() if row[0].startswith("uwsgibridge/worker/")
}


@pytest.mark.parametrize(
    ("preload", "kinds"),
    [((), BROKEN), (("--preload",), BROKEN_BELOW_THE_SUPERVISOR)],
    ids=["forked", "preloaded"],
)
def test_it_is_never_begun_and_the_log_says_why(tmp_path, preload, kinds):
    site = installation(tmp_path)
    # Else the current directory comes first, which has the package as well.
    environment = {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    with workers(tmp_path, "tcp", "wsgi", *preload, environment=environment) as stack:
        everyone = everybody(stack.pid)
        with Load(stack.url, threads=2, pause_seconds=0.05) as load:
            for kind, (file, text, said) in kinds.items():
                with broken(site / file, text):
                    event = upgrade(stack)
                assert said in str(event["output"]), kind
                assert event["exit_status"] != 0, kind
                assert everybody(stack.pid) == everyone, kind
        assert set(load.seen) == {"one"}
        write(tmp_path, "two")
        since = len(stack.log_events())
        stack.bridge.signal(signal.SIGUSR2)
        stack.wait_for_event(
            event_with(event="reloaded"), since=since, timeout_seconds=PATIENCE_SECONDS
        )
        assert all(wait_gone(pid, PATIENCE_SECONDS) for pid in everyone)
        with Load(stack.url) as load:
            pass
        assert set(load.seen) == {"two"}
        assert stack.stop() == 0


# Of the real start alone: the rehearsal has no heritage. What is put at the end of a file, and what is logged.
AS_THE_PROGRAM = "\nimport os\nif 'UWSGIBRIDGE_HERITAGE_FD' in os.environ: "
AT_THE_REAL_START: dict[str, tuple[str, str, str]] = {
    "a raise at an import": (
        "uwsgibridge/supervisor/heritage.py",
        f"{AS_THE_PROGRAM}raise RuntimeError('broken today')\n",
        "RuntimeError: broken today",
    ),
    "a module that is gone": (
        "uwsgibridge/__init__.py",
        f"{AS_THE_PROGRAM}import uwsgibridge.gone\n",
        "No module named 'uwsgibridge.gone'",
    ),
    "an end without a word": (
        "uwsgibridge/cli/serve.py",
        f"{AS_THE_PROGRAM}raise SystemExit\n",
        "it ended with status 0",
    ),
    "a hang": (
        "uwsgibridge/cli/__init__.py",
        f"{AS_THE_PROGRAM}import threading; threading.Event().wait()\n",
        "it has not taken over within 3 s",
    ),
    "a raise when it has what it was handed": (
        "uwsgibridge/control/server.py",
        "\nasync def answer_control(*_, **__): raise RuntimeError('no control today')\n",
        "RuntimeError: no control today",
    ),
}


@EVERY_SOCKET
def test_a_new_program_that_dies_in_its_start_becomes_the_old_one(tmp_path, kind_of_socket):
    site, control, pid_file = installation(tmp_path), tmp_path / "control", tmp_path / "pid"
    preserved = site / "uwsgibridge/supervisor/preserved.py"
    preserved.write_text(
        preserved.read_text().replace("_SECONDS: Final = 60.0", "_SECONDS: Final = 3.0")
    )
    with workers(
        tmp_path,
        *(kind_of_socket, "wsgi", "--control-socket", str(control), "--pid-file", str(pid_file)),
        environment={"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"},
    ) as stack:
        settle(stack.pid, control, 2)
        everyone = everybody(stack.pid)
        after_the_first = None
        with Load(stack.url, threads=2, pause_seconds=0.05) as load:
            for kind, (file, text, said) in AT_THE_REAL_START.items():
                since = len(stack.log_events())
                with broken(site / file, (site / file).read_text() + text):
                    stack.bridge.signal(signal.SIGUSR2)
                    event = stack.wait_for_event(
                        event_with(event="upgrade failed: the old program goes on"),
                        since=since,
                        timeout_seconds=PATIENCE_SECONDS,
                    )
                    assert said in str(event["reason"]), kind
                    stack.wait_for_event(event_with(event="listening"), since=since)
                    # Nothing collects: what one failure leaves would be there after the next.
                    opened = sum(settle(stack.pid, control, 2).values())
                    after_the_first = after_the_first or opened
                    assert opened == after_the_first, kind
                assert everybody(stack.pid) == everyone, kind
                assert pid_file.read_text() == f"{stack.pid}\n", kind
        assert set(load.seen) == {"one"}
        # The old program serves on in every way.
        since = len(stack.log_events())
        victim = fetch(stack.url)[1]
        os.kill(victim, signal.SIGKILL)
        stack.wait_for_event(event_with(event="worker ended"), since=since)
        settle(stack.pid, control, 2)
        # And what is right again is taken.
        everyone = everybody(stack.pid)
        write(tmp_path, "two")
        stack.bridge.signal(signal.SIGUSR2)
        stack.wait_for_event(
            event_with(event="reloaded"), since=since, timeout_seconds=PATIENCE_SECONDS
        )
        assert all(wait_gone(pid, PATIENCE_SECONDS) for pid in everyone)
        settle(stack.pid, control, 2)
        assert fetch(stack.url)[0] == "two"
        assert stack.stop() == 0
    assert not pid_file.exists()


# Answers to a signal, so that its output is known to be read.
SIDECAR = """
import signal
signal.signal(signal.SIGUSR1, lambda *_: print("still here", flush=True))
print("begins", flush=True)
while True: signal.pause()
"""


def test_sidecars_go_on_where_the_new_program_dies_in_its_start(tmp_path):
    site, control = installation(tmp_path), tmp_path / "control"
    (tmp_path / "beside.py").write_text(SIDECAR)
    sidecar = f"{sys.executable} {tmp_path}/beside.py"
    with workers(
        tmp_path,
        *("tcp", "wsgi", "--control-socket", str(control), "--sidecar", sidecar),
        environment={"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"},
    ) as stack:
        stack.wait_for_event(event_with(event="sidecar wrote"))
        pid = stack.wait_for_event(event_with(event="sidecar started"))["pid"]
        pipes = 0
        for kind in (
            "an end without a word", "a raise when it has what it was handed", "a broken module of sidecars",
        ):  # fmt: skip
            file, text, said = AT_THE_REAL_START.get(
                kind, ("uwsgibridge/supervisor/sidecar.py", "\nnonsense\n", "nonsense")
            )
            since = len(stack.log_events())
            with broken(site / file, (site / file).read_text() + text):
                stack.bridge.signal(signal.SIGUSR2)
                event = stack.wait_for_event(
                    lambda it: str(it["event"]).startswith("upgrade failed"),
                    since=since,
                    timeout_seconds=PATIENCE_SECONDS,
                )
            assert said in str(event), kind
            if kind in AT_THE_REAL_START:
                stack.wait_for_event(event_with(event="listening"), since=since)
            [told] = ask(control, "status")["sidecars"]
            assert (told["pid"], told["state"], told["restarts"]) == (pid, "running", 0), kind
            os.kill(pid, signal.SIGUSR1)
            stack.wait_for_event(event_with(event="sidecar wrote", text="still here"), since=since)
            # A connection of `ask` may still be open, and is no pipe.
            pipes = pipes or open_files(stack.pid)["pipe"]
            assert open_files(stack.pid)["pipe"] == pipes, kind
        assert stack.stop() == 0
        assert wait_gone(pid, PATIENCE_SECONDS)


def upgrade(stack: LocalStack):
    since = len(stack.log_events())
    stack.bridge.signal(signal.SIGUSR2)
    return stack.wait_for_event(FAILED, since=since, timeout_seconds=PATIENCE_SECONDS)
