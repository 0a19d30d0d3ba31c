"""A program that is started beside this process: its output, its end, and the end of all that it has started.

A program has a session of its own. So Ctrl-C reaches this process alone, and what the program starts is in a process
group that has its number. That number can't become another's as long as the program has not been reaped, so the
whole group is ended before that. Where this process ends, however that happens, the kernel kills the group
(`uwsgibridge.system.lifeline`): nobody is left then who reads the output, so that programs fail in their orderly end when
they write, and nobody who could end what they leave.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from typing import Any, Final

import trio

from uwsgibridge.commands.finding import environment
from uwsgibridge.commands.output import LastLines, LineSplitter
from uwsgibridge.commands.pids import PIDS_OF_PROGRAMS
from uwsgibridge.config.commands import Command
from uwsgibridge.system.lifeline import Lifeline
from uwsgibridge.system.process_group import members_of, signal_group

_READ_BYTES: Final = 65_536

# How long killed processes have to vanish, and what they have written to arrive.
_LAST_SECONDS: Final = 1.0

# How often a group is looked at where the system does not tell of an end.
_LOOK_SECONDS: Final = 0.02

_STREAMS: Final = ("stdout", "stderr")

# A line of output: the name of its stream, and its text.
Tell = Callable[[str, str], None]


class Program:
    """One program, from its start to its end; `start` or `adopt` makes it.

    Attributes:
        pid: of its first process.
        has_ended: whether it has ended, and with it all processes of its group.
        ended: set at that moment.
        status: its exit status then, as `os.waitstatus_to_exitcode` gives it; None where it is not known.
        last_lines: of its output.
    """

    def __init__(
        self,
        pid: int,
        lifeline: int,
        streams: Mapping[str, int],
        *,
        tell: Tell,
        grace_seconds: float,
        begun: Mapping[str, str] | None = None,
    ) -> None:
        self.pid = pid
        self.ended = trio.Event()
        self.status: int | None = None
        self.last_lines = LastLines()
        self._lifeline = lifeline
        self._streams = dict(streams)
        self._splitters = {
            it: LineSplitter((begun or {}).get(it, "").encode("latin-1")) for it in streams
        }
        self._tell = tell
        self._grace_seconds = grace_seconds
        PIDS_OF_PROGRAMS.add(pid)
        for descriptor in streams.values():
            os.set_blocking(descriptor, False)

    @staticmethod
    def start(command: Command, *, tell: Tell, grace_seconds: float) -> Program:
        """Start a program. Call it in the main thread.

        Args:
            command: the program and its arguments.
            tell: called with the stream and the text of each line that the program writes.
            grace_seconds: how long its other processes have to end after it, between SIGTERM and SIGKILL.

        Raises:
            OSError: it can't be started.
        """
        with contextlib.ExitStack() as on_failure, contextlib.ExitStack() as theirs:
            lifeline = Lifeline()
            on_failure.callback(lifeline.close)
            reading: dict[str, int] = {}
            writing: dict[str, int] = {}
            for name in _STREAMS:
                reading[name], writing[name] = os.pipe()
                on_failure.callback(os.close, reading[name])
                theirs.callback(os.close, writing[name])
            process = subprocess.Popen(  # noqa: S603 - the operator's own command
                command.arguments,
                env={**environment(), **command.variables},
                stdin=subprocess.DEVNULL,
                stdout=writing["stdout"],
                stderr=writing["stderr"],
                pass_fds=[lifeline.inherited],
                start_new_session=True,
            )
            lifeline.hold(process.pid, number=signal.SIGKILL, whole_group=True)
            on_failure.pop_all()
        # It is waited for by its number, as one is that was taken over from another program.
        process.returncode = 0
        return Program(
            process.pid, lifeline.detach(), reading, tell=tell, grace_seconds=grace_seconds
        )

    @staticmethod
    def adopt(heritage: Mapping[str, Any], *, tell: Tell, grace_seconds: float) -> Program:
        """Take over a program that `bequeath` has described, after an exec."""
        return Program(
            heritage["pid"],
            heritage["lifeline"],
            heritage["streams"],
            tell=tell,
            grace_seconds=grace_seconds,
            begun=heritage["begun"],
        )

    def bequeath(self) -> dict[str, Any]:
        """Describe the program for `adopt`, as JSON values, and forget it; its descriptors have to be inherited."""
        PIDS_OF_PROGRAMS.discard(self.pid)
        return {
            "pid": self.pid,
            "lifeline": self._lifeline,
            "streams": dict(self._streams),
            "begun": {it: one.begun.decode("latin-1") for it, one in self._splitters.items()},
        }

    @property
    def has_ended(self) -> bool:
        return self.ended.is_set()

    async def watch(self) -> None:
        """Read the output until the program and its group have ended, and reap it.

        Where this is cancelled, the program goes on, and `bequeath` or `kill` is to be called.
        """
        all_is_read = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_all, all_is_read)
            await self._wait_for_first_process()
            await self._end_group()
            self._reap()
            with trio.move_on_after(_LAST_SECONDS):
                # A process that has left the group may hold a stream open for ever.
                await all_is_read.wait()
            nursery.cancel_scope.cancel()
        for name, splitter in self._splitters.items():
            self._take(name, splitter.finish())
        self._close()
        self.ended.set()

    def terminate(self) -> None:
        """Ask the program to end; its other processes are asked after it."""
        # PermissionError: it has become another user.
        with contextlib.suppress(OSError):
            if self.pid in PIDS_OF_PROGRAMS:
                os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill the program and all processes of its group, unless they have ended."""
        # PermissionError: they have become another user.
        with contextlib.suppress(OSError):
            if self.pid in PIDS_OF_PROGRAMS:
                os.killpg(self.pid, signal.SIGKILL)

    async def _read_all(self, done: trio.Event) -> None:
        async with trio.open_nursery() as nursery:
            for name in self._streams:
                nursery.start_soon(self._read, name)
        done.set()

    async def _read(self, name: str) -> None:
        descriptor = self._streams[name]
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            try:
                piece = os.read(descriptor, _READ_BYTES)
            except BlockingIOError:
                continue
            if not piece:
                return
            self._take(name, self._splitters[name].feed(piece))

    def _take(self, name: str, lines: list[str]) -> None:
        for line in lines:
            self.last_lines.add(line)
            self._tell(name, line)

    async def _wait_for_first_process(self) -> None:
        """Wait until the first process has ended, and leave it unreaped."""

        def wait() -> None:
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

        try:
            process = os.pidfd_open(self.pid)
        except ProcessLookupError:  # somebody else has reaped it
            return
        except (OSError, AttributeError):  # too many open files, a sandbox, or no Linux
            await trio.to_thread.run_sync(
                wait, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1)
            )
            return
        await _wait_and_close(process)

    async def _end_group(self) -> None:
        """End what is left of the program's group: by SIGTERM first, and then by SIGKILL."""
        if not signal_group(self.pid, signal.SIGTERM):
            return
        with trio.move_on_after(self._grace_seconds):
            await self._wait_for_group()
        self.kill()
        with trio.move_on_after(_LAST_SECONDS):
            await self._wait_for_group()

    async def _wait_for_group(self) -> None:
        while members := members_of(self.pid):
            try:
                process = os.pidfd_open(members[0])
            except ProcessLookupError:
                continue
            except (OSError, AttributeError):  # too many open files, a sandbox, or no Linux
                await trio.sleep(_LOOK_SECONDS)
                continue
            await _wait_and_close(process)

    def _reap(self) -> None:
        PIDS_OF_PROGRAMS.discard(self.pid)
        with contextlib.suppress(ChildProcessError):  # somebody else has reaped it
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)

    def _close(self) -> None:
        os.close(self._lifeline)
        for descriptor in self._streams.values():
            os.close(descriptor)


async def _wait_and_close(process: int) -> None:
    try:
        await trio.lowlevel.wait_readable(process)
    finally:
        os.close(process)
