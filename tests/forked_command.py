"""A command that ends by itself, in a fork of a process that has imported the package already.

What is tested so is the sentence that a person gets. Python's own start, which takes longer than all of the command, is
what tests of whole processes have (`tests.bridge_process`).
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.bridge_process import environment_of
from tests.log_events import EVENT_SECONDS, LogEvents

# What a start imports, wherever it ends.
_IMPORTED: Final = (
    "uwsgibridge.cli.ctl",
    "uwsgibridge.cli.dev",
    "uwsgibridge.cli.nginx",
    "uwsgibridge.cli.request",
    "uwsgibridge.cli.serve",
    "uwsgibridge.cli.slips",
    "uwsgibridge.supervisor.supervisor",
    "uwsgibridge.worker.process",
    "uwsgibridge.worker.template",
)


def run_command(
    *arguments: str, directory: Path, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run ``uwsgibridge`` with these arguments, until it ends by itself.

    Returns:
        The exit status, negative for a signal, and all that it printed.
    """
    output = directory / ".output"
    try:
        status = _forker().fork(
            arguments=arguments,
            directory=str(directory),
            environment=environment_of(environment or {}),
            output=str(output),
        )
        said = LogEvents()
        said.write(output.read_text())
    finally:
        output.unlink(missing_ok=True)
    return status, said.text()


@cache
def _forker() -> _Forker:
    return _Forker()


class _Forker:
    """The process that forks; it ends with this one, whose pipe it reads."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forked_command"],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()

    def fork(self, **command: Any) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        assert answer, "the process that forks has ended"
        status: int | None = json.loads(answer)
        assert status is not None, f"{command['arguments']} has not ended by itself"
        return status


def _serve() -> None:
    for name in _IMPORTED:
        __import__(name)
    for line in sys.stdin:
        print(json.dumps(_run(**json.loads(line))), flush=True)  # noqa: T201 - the answer


def _run(
    arguments: list[str], directory: str, environment: dict[str, str], output: str
) -> int | None:
    pid = os.fork()
    if not pid:
        status = 70
        try:
            os.chdir(directory)
            os.environ.clear()
            os.environ.update(environment)
            sys.argv = ["uwsgibridge", *arguments]
            sys.path[0] = directory
            with Path(output).open("wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            with Path(os.devnull).open("rb") as nothing:
                os.dup2(nothing.fileno(), 0)
            status = _status_of_main()
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os._exit(status)
    return _wait(pid)


def _status_of_main() -> int:
    try:
        runpy.run_module("uwsgibridge", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _wait(pid: int) -> int | None:
    """Wait for the end of a process; None where it has not come, and the process was killed."""
    killer = threading.Timer(EVENT_SECONDS, os.kill, (pid, 9))
    killer.start()
    try:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        killer.cancel()
    return None if status == -9 else status


if __name__ == "__main__":
    _serve()
