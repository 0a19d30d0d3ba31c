"""The guard ends what it started and removes the directory, whatever happens to either side.

Each command inherits the guard's standard error, a pipe: its end is the end of every process.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from uwsgibridge.frontend import guard

PATIENCE_SECONDS = 20.0
# For something that does not happen.
SHORT_SECONDS = 0.1
# Longer than the patience: what runs for so long was not ended.
FOREVER = "sleep 40"


class Guarded:
    """A running guard, seen through its pipes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._stderr = process.stderr

    def line(self) -> bytes:
        """Read what the command says next."""
        self._wait_readable(self._stderr)
        return self._stderr.readline()

    def wait_told(self) -> None:
        """Wait until the guard says that the command has ended."""
        self._wait_readable(self._stdout)
        assert self._stdout.read(1) == b"."

    def stays(self) -> bool:
        """Say whether the guard, which has no more to tell, keeps standard output open."""
        readable, _, _ = select.select([self._stdout], [], [], SHORT_SECONDS)
        return not readable

    def ask(self) -> None:
        """Ask it to end all."""
        self._stdin.close()

    def wait_gone(self) -> bytes:
        """Wait for the end of all that hold standard error; give what they said until then."""
        said = b""
        while True:
            self._wait_readable(self._stderr)
            if not (piece := os.read(self._stderr.fileno(), 4096)):
                return said
            said += piece

    @staticmethod
    def _wait_readable(stream: IO[bytes]) -> None:
        readable, _, _ = select.select([stream], [], [], PATIENCE_SECONDS)
        assert readable, "somebody still runs"


@contextmanager
def guarded(
    directory: Path, *command: str, grace_seconds: float = PATIENCE_SECONDS
) -> Iterator[Guarded]:
    with subprocess.Popen(
        [sys.executable, "-I", "-S", guard.__file__, str(directory), str(grace_seconds), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            yield Guarded(process)
        finally:
            process.kill()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "owned"
    path.mkdir()
    (path / "error.log").write_text("why")
    return path


def shell(script: str) -> tuple[str, ...]:
    return "/bin/sh", "-c", script


def test_the_end_of_standard_input_ends_all(directory: Path) -> None:
    with guarded(directory, *shell(f"echo up >&2; exec {FOREVER}")) as running:
        assert running.line() == b"up\n"
        running.ask()
        assert running.wait_gone() == b""
        assert running.process.wait(PATIENCE_SECONDS) == 0
    assert not directory.exists()


def test_the_end_of_the_command_is_told_and_its_log_stays(directory: Path) -> None:
    with guarded(directory, *shell("exit 3")) as running:
        running.wait_told()
        assert running.stays()
        assert (directory / "error.log").read_text() == "why"
        running.ask()
        running.wait_gone()
    assert not directory.exists()


def test_a_request_may_end_first(directory: Path) -> None:
    script = "trap 'echo ending >&2; exit' QUIT; echo up >&2; while :; do sleep 0.01; done"
    with guarded(directory, *shell(script)) as running:
        assert running.line() == b"up\n"
        running.ask()
        assert running.wait_gone() == b"ending\n"


def test_a_command_that_hears_nothing_is_killed(directory: Path) -> None:
    script = "trap '' QUIT TERM; echo up >&2; while :; do sleep 0.01; done"
    with guarded(directory, *shell(script), grace_seconds=0.05) as running:
        assert running.line() == b"up\n"
        running.ask()
        running.wait_gone()
    assert not directory.exists()


def test_what_the_command_leaves_behind_is_killed(directory: Path) -> None:
    with guarded(directory, *shell(f"{FOREVER} & echo up >&2")) as running:
        assert running.line() == b"up\n"
        running.wait_told()
        running.ask()
        running.wait_gone()


def test_workers_of_a_killed_master_are_killed(directory: Path) -> None:
    with guarded(directory, *shell(f"{FOREVER} & echo $$ >&2; wait")) as running:
        os.kill(int(running.line()), signal.SIGKILL)
        running.wait_told()
        running.ask()
        running.wait_gone()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_guard_ends_all(directory: Path, number: int) -> None:
    with guarded(directory, *shell(f"echo up >&2; exec {FOREVER}")) as running:
        assert running.line() == b"up\n"
        running.process.send_signal(number)
        assert running.wait_gone() == b""
        assert running.process.wait(PATIENCE_SECONDS) == 0
    assert not directory.exists()
