"""A bridge as a process of its own, without an Nginx."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Self

from uwsgibridge.system.lifeline import Lifeline
from uwsgibridge.testing.errors import StackError
from uwsgibridge.testing.log_stream import LogEvent, LogStream, event_with

if TYPE_CHECKING:
    from types import TracebackType

# How long a bridge may take beyond its grace period, to end the application and the interpreter.
_STOP_MARGIN_SECONDS: Final = 10.0

# How long its last lines may take to be read once it has ended.
_LAST_LINES_SECONDS: Final = 1.0


class BridgeProcess:
    """Run ``uwsgibridge serve`` for as long as a `with` block lasts.

    Owns the process and the pipe that its log comes through. The process gets SIGTERM when this process ends,
    however that happens.

    Args:
        arguments: of ``serve``, with the application and ``--bind``. ``--log-format json`` and
            ``--graceful-timeout-seconds`` are added, and ``--workers 0`` unless they have ``--workers``.
        environment: variables beside those of this process.
        stdin: a descriptor for its standard input, such as a listening socket for ``--bind fd://0``.
        start_timeout_seconds: how long the bridge may take until it listens.
        graceful_timeout_seconds: how long running requests may take at the end.
    """

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        start_timeout_seconds: float = 20.0,
        graceful_timeout_seconds: float = 5.0,
    ) -> None:
        counts = any(it.startswith(("--workers", "-w")) for it in arguments)
        self._arguments = arguments if counts else (*arguments, "--workers", "0")
        self._environment = {**os.environ, **(environment or {})}
        self._stdin = stdin
        self._start_timeout_seconds = start_timeout_seconds
        self._graceful_timeout_seconds = graceful_timeout_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: Lifeline | None = None
        self._log: LogStream | None = None

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._started().pid

    @property
    def address(self) -> str:
        """The first address that the bridge listens at, with the real port, in the form that ``--bind`` takes."""
        return str(self.log.wait_for_event(event_with(event="listening"))["address"])

    @property
    def log(self) -> LogStream:
        """What the bridge has written to standard error; it stays readable after the end."""
        assert self._log is not None, "it was not started"
        return self._log

    def start(self) -> None:
        """Start the bridge, and return as soon as it listens.

        Raises:
            StackError: the bridge ended instead, with `StackError.exit_status`, or took too long.
        """
        assert self._process is None, "it was started already"
        self._process = process = self._spawn()
        assert process.stderr is not None
        self._log = LogStream(process.stderr, source="the bridge")
        try:
            self._log.wait_for_event(
                event_with(event="listening"), timeout_seconds=self._start_timeout_seconds
            )
        except StackError:
            ended = self._log.wait_ended(0)
            status = self.stop()
            raise StackError(
                f"the bridge ended at its start, with status {status}"
                if ended
                else f"the bridge does not listen within {self._start_timeout_seconds:g} s",
                log=self._log.text(),
                exit_status=status if ended else None,
            ) from None

    def signal(self, number: int) -> None:
        """Send a signal to the bridge; SIGTERM begins its stop, for which `stop` waits."""
        self._started().send_signal(number)

    def wait_ended(self, timeout_seconds: float) -> int:
        """Wait until the bridge has ended by itself or by a signal, and its log was read.

        A process that it has started may hold the log open; that is waited for briefly.

        Returns:
            Its exit status; the negative number of the signal that ended it.

        Raises:
            StackError: it has not ended in time.
        """
        try:
            status = self._started().wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise StackError(
                f"the bridge did not end within {timeout_seconds:g} s", log=self.log.text()
            ) from None
        self.log.wait_ended(_LAST_LINES_SECONDS)
        return status

    def stop(self) -> int:
        """Stop the bridge, which lets running requests end; do nothing where it has ended.

        Returns:
            Its exit status; -9 where it had to be killed.
        """
        process = self._started()
        assert process.stderr is not None
        process.terminate()
        try:
            status = process.wait(self._graceful_timeout_seconds + _STOP_MARGIN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        if self._lifeline is not None:
            self._lifeline.cut()
            self._lifeline = None
        # A process that the application has started may hold the pipe open for ever.
        if self.log.wait_ended(_STOP_MARGIN_SECONDS):
            process.stderr.close()
        return status

    def log_events(self, *, since: int = 0) -> list[LogEvent]:
        """List the bridge's log events without the first `since` ones."""
        return self.log.events(since=since)

    def wait_for_event(
        self,
        predicate: Callable[[LogEvent], bool],
        *,
        since: int = 0,
        timeout_seconds: float = 10.0,
    ) -> LogEvent:
        """Wait for a log event; see `LogStream.wait_for_event`."""
        return self.log.wait_for_event(predicate, since=since, timeout_seconds=timeout_seconds)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(StackError):
            self.stop()

    def _spawn(self) -> subprocess.Popen[bytes]:
        lifeline = Lifeline()
        try:
            process = subprocess.Popen(  # noqa: S603 - our own program
                (
                    *(sys.executable, "-m", "uwsgibridge", "serve", *self._arguments),
                    *("--log-format", "json"),
                    *("--graceful-timeout-seconds", str(self._graceful_timeout_seconds)),
                ),
                stdin=self._stdin,
                stderr=subprocess.PIPE,
                env=self._environment,
                pass_fds=[lifeline.inherited],
                # Ctrl-C reaches the test run alone, which stops the bridge.
                start_new_session=True,
            )
        except BaseException:
            lifeline.close()
            raise
        lifeline.hold(process.pid)
        self._lifeline = lifeline
        return process

    def _started(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was not started"
        return self._process
