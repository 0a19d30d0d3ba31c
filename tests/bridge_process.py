"""A bridge as a process of its own: ``python -m uwsgibridge serve``, its log and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.log_events import EVENT_SECONDS, LogEvents
from tests.processes import descendants_of
from uwsgibridge.fast import PURE_VARIABLE
from uwsgibridge.system.lifeline import Lifeline


class BridgeProcess:
    """A running process.

    Attributes:
        events: its log; what is no event is there as text.
        pid: its id.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
        pass_fds: Sequence[int],
        program: Sequence[str],
    ) -> None:
        self.events = LogEvents()
        self._lifeline = Lifeline()
        self._process = subprocess.Popen(
            # Warnings show: a clean end leaves no connection open.
            [sys.executable, "-W", "always::ResourceWarning", *program, *arguments],
            cwd=directory,
            env=environment_of(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=[*pass_fds, self._lifeline.inherited],
        )
        self.pid = self._process.pid
        self._lifeline.hold(self.pid)
        self._reader = threading.Thread(target=self._read_log, name="log")
        self._reader.start()

    @property
    def address(self) -> str:
        """Where it listens, once it does; the first of several."""
        return str(self.events.wait(event="listening")["address"])

    def wait_listening(self, count: int) -> list[str]:
        """Wait for several addresses."""
        return [str(event["address"]) for event in self.events.wait_many(count, event="listening")]

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end, and all of its log; give the exit status."""
        status = self._process.wait(EVENT_SECONDS)
        self._reader.join(EVENT_SECONDS)
        return status

    def stop(self) -> int:
        """End it as a supervisor does."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End it whatever it does."""
        started: list[int] = []
        if self._process.poll() is None:
            started = descendants_of(self.pid)
            self._process.kill()
        self._process.wait()
        self._lifeline.cut()
        # A worker that does not hear of it would hold the log open.
        for pid in started:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._reader.join(EVENT_SECONDS)
        assert not self._reader.is_alive(), "a process that it has started goes on"
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read_log(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.events.write(line)


def environment_of(further: Mapping[str, str]) -> dict[str, str]:
    """Give the environment of a bridge: that of this process without its options, and what is given."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name == PURE_VARIABLE or not name.startswith("UWSGIBRIDGE_")
    }
    # A supervisor has tests of its own.
    return {"UWSGIBRIDGE_WORKERS": "0", **inherited, **further}


@contextmanager
def running_process(
    *arguments: str,
    directory: Path,
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    program: Sequence[str] = ("-m", "uwsgibridge"),
) -> Iterator[BridgeProcess]:
    """Run ``python -m uwsgibridge`` in a directory, or the program that Python is given, and see to its end."""
    process = BridgeProcess(
        arguments,
        directory=directory,
        environment=environment or {},
        pass_fds=pass_fds,
        program=program,
    )
    try:
        yield process
    finally:
        process.kill()


def run_to_its_end(
    *arguments: str, directory: Path, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run ``python -m uwsgibridge`` that is to end by itself.

    Returns:
        The exit status, and all that it printed.
    """
    with running_process(*arguments, directory=directory, environment=environment) as process:
        return process.wait(), process.events.text()
