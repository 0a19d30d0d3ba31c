"""A test run that is killed leaves no process behind: neither bridge nor workers, neither Nginx nor its guard."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PATIENCE_SECONDS = 60.0

APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]
"""

# The test says that its stack is up, and never ends.
RUN = """
import signal
from urllib.request import urlopen

def test_that_is_killed(local_stack):
    stack = local_stack("greeting:application", serve_args={serve_args})
    with urlopen(stack.url, timeout=20) as answer:
        assert answer.read() == b"hello"
    print("\\nup", flush=True)
    signal.pause()
"""

# The import of this application never ends: the bridge listens neither to signals nor to a socket yet.
HANGING = """
import signal
print("up", flush=True)
signal.pause()
"""
IMPORTING = """
from uwsgibridge.testing import BridgeProcess

def test_that_is_killed():
    BridgeProcess("hanging:application", "--bind", "127.0.0.1:0", start_timeout_seconds=600).start()
"""


def start(directory: Path, test: str) -> subprocess.Popen[str]:
    (directory / "greeting.py").write_text(APPLICATION)
    (directory / "hanging.py").write_text(HANGING)
    (directory / "test_run.py").write_text(test)
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest", "-q", "-s", "-p", "uwsgibridge.testing.plugin"),
            *("-p", "no:cacheprovider", "test_run.py"),
        ],
        cwd=directory,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def descendants(pid: int) -> set[int]:
    """List the processes below one, by their parents."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(path.parent.name)] = int(after_name[1])
    found = {pid}
    while grown := {it for it, parent in parents.items() if parent in found} - found:
        found |= grown
    return found - {pid}


def wait_ended(descriptors: list[int]) -> bool:
    """Whether all processes have ended before the deadline; takes their pidfds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    for descriptor in descriptors:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return False
    return True


def kill_and_look(run: subprocess.Popen[str], number: signal.Signals, at_least: int) -> None:
    below = descendants(run.pid)
    descriptors = [os.pidfd_open(it) for it in below]
    try:
        assert len(below) >= at_least
        run.send_signal(number)
        assert run.wait(PATIENCE_SECONDS) == -number
        assert wait_ended(descriptors)
    finally:
        for descriptor in descriptors:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.close(descriptor)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["term", "kill"])
@pytest.mark.parametrize(
    ("serve_args", "processes"),
    [
        # Bridge, guard, Nginx and its worker.
        ((), 4),
        # Supervisor, template and two workers, guard, Nginx and its worker.
        (("--workers", "2"), 7),
    ],
)
def test_a_stack_ends_with_its_run(
    tmp_path: Path, serve_args: tuple[str, ...], processes: int, number: signal.Signals
) -> None:
    with start(tmp_path, RUN.format(serve_args=serve_args)) as run:
        assert run.stdout is not None
        assert any(line.startswith("up") for line in run.stdout)
        kill_and_look(run, number, processes)


def test_a_bridge_ends_with_its_run_while_it_imports(tmp_path: Path) -> None:
    with start(tmp_path, IMPORTING) as run:
        # The bridge writes to the standard output of its run.
        assert run.stdout is not None
        assert any(line.startswith("up") for line in run.stdout)
        kill_and_look(run, signal.SIGKILL, 1)
