"""A template as its supervisor sees it: starts it, sends it requests, reads its reports, and ends it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import trio

from uwsgibridge.config.options import option_name
from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.link.messages import (
    CLOSE,
    FORK_DESCRIPTORS,
    MAX_BYTES,
    STOP,
    Blueprint,
    Fork,
    Leave,
    Report,
    ReportEvent,
)
from uwsgibridge.supervisor.spare_template import SpareTemplate
from uwsgibridge.system import held_secret, starting_place
from uwsgibridge.system.process_group import signal_group
from uwsgibridge.system.reasons import why_not_run
from uwsgibridge.system.signals import SERVER_SIGNALS
from uwsgibridge.telemetry.logs import Logger

# How long a template may take to end after its last worker, and again after SIGKILL.
_END_SECONDS: Final = 5.0

# How long a template may take to close its sockets, which takes microseconds.
_CLOSE_SECONDS: Final = 3.0

# How long the command line may be, as JSON, that a template gets with the settings, where both fit into one message. A
# template that was forked has it already.
_MAX_ARGUMENTS: Final = 32_768

# Received descriptors are closed at an exec. Without this flag of Linux, a program that is started at once could
# inherit them; on other systems, `Popen` closes them.
_CLOSE_ON_EXEC: Final[int] = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class TemplateProcess:
    """One template, from its start to its end; `start` or `adopt` makes it.

    Attributes:
        pid: of its process.
        preloads: whether the template has the application in its memory.
        has_ended: whether the process has ended.
    """

    def __init__(
        self, pid: int, wait: Callable[[], int], control: socket.socket, *, preloads: bool
    ) -> None:
        self.pid = pid
        self.preloads = preloads
        self.has_ended = False
        self._wait = wait
        self._control = control
        self._control.setblocking(False)
        self._ended = trio.Event()
        self._sockets_closed = trio.Event()
        self._sockets_left = trio.Event()

    @staticmethod
    def start(
        app_name: str | None,
        settings: Settings,
        sockets: Sequence[ListeningSocket],
        lifeline: int,
        *,
        is_rehearsal: bool,
        spare: SpareTemplate | None = None,
    ) -> TemplateProcess:
        """Start a template.

        Args:
            app_name: what the template loads.
            settings: of the workers; their addresses become the sockets' descriptors.
            sockets: owned by the supervisor.
            lifeline: read end of a pipe whose other end the supervisor holds.
            is_rehearsal: whether workers are to accept nothing.
            spare: runs as the template, where it does not run as another one already.

        Raises:
            OSError: no process can be started.
        """
        descriptors = [listening.socket.fileno() for listening in sockets]
        inherited = tuple(f"fd://{descriptor}" for descriptor in descriptors)
        blueprint = Blueprint(
            app_name,
            # The environment has the variables already, and a message has no room for many.
            replace(settings, bind=inherited, env=(), env_file=()),
            lifeline,
            _arguments(),
            any(it.is_inherited for it in sockets),
            is_rehearsal,
            tls=held_secret.descriptor(),
        )
        if len(blueprint.encode()) > MAX_BYTES:
            blueprint = replace(blueprint, arguments=())
        message = blueprint.encode()
        if len(message) > MAX_BYTES:
            raise OSError(
                f"APP and the options have {len(message)} bytes together, and {MAX_BYTES} are taken; the longest is "
                f"{_longest(blueprint)}"
            )
        if spare is not None:
            control = spare.start(blueprint, [lifeline, *descriptors, *held_secret.descriptors()])
            if control is not None:
                return TemplateProcess(
                    spare.pid, _waiter(spare.pid), control, preloads=settings.preload
                )
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with theirs, contextlib.ExitStack() as on_failure:
            on_failure.callback(ours.close)
            ours.send(message)
            # The template inherits the mask, so that signals wait until it has its handlers.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, SERVER_SIGNALS)
            try:
                process = subprocess.Popen(  # noqa: S603 - our own module
                    (*python_command(), "-m", "uwsgibridge.worker.template", str(theirs.fileno())),
                    pass_fds=[*descriptors, theirs.fileno(), lifeline, *held_secret.descriptors()],
                    cwd=_directory(),
                    # Ctrl-C reaches the supervisor alone, which then stops the workers.
                    start_new_session=True,
                )
            except PermissionError as error:
                if error.filename != sys.executable:
                    raise
                raise OSError(why_not_run(sys.executable)) from error
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            on_failure.pop_all()
        return TemplateProcess(process.pid, process.wait, ours, preloads=settings.preload)

    @staticmethod
    def adopt(heritage: Mapping[str, Any]) -> TemplateProcess:
        """Take over what `bequeath` described, after an exec in place."""
        pid: int = heritage["template"]
        control = socket.socket(fileno=heritage["control"])
        return TemplateProcess(pid, _waiter(pid), control, preloads=heritage.get("preloads", False))

    def bequeath(self) -> dict[str, Any]:
        """Describe the template for `adopt`, as JSON values, and forget it; ``control`` has to be inherited."""
        return {
            "template": self.pid,
            "control": self._control.detach(),
            "preloads": self.preloads,
        }

    def fork(self, max_requests: int, number: int) -> bool:
        """Ask for one more worker; False where the template has too many open requests, or has ended.

        Args:
            max_requests: after how many requests the worker asks to be replaced; 0 is never.
            number: of the worker.
        """
        try:
            self._control.send(Fork(max_requests, number).encode())
        except OSError:  # the end of a template is noticed elsewhere
            return False
        return True

    async def close_sockets(self, logger: Logger) -> None:
        """Have the template close the listening sockets; at the return, it has done so or was sent SIGKILL."""
        with contextlib.suppress(OSError):
            self._control.send(CLOSE)
        with trio.move_on_after(_CLOSE_SECONDS) as waiting:
            await self._sockets_closed.wait()
        if waiting.cancelled_caught:
            logger.error("killing template: it does not close its sockets", template=self.pid)
            self.signal(signal.SIGKILL)
            with trio.move_on_after(_CLOSE_SECONDS):
                await self._ended.wait()

    async def leave_sockets(self, descriptors: tuple[int, ...]) -> None:
        """Have the template close some of the listening sockets.

        A template of an older version may not report that, so the wait is bounded.
        """
        self._sockets_left = trio.Event()
        with contextlib.suppress(OSError):
            self._control.send(Leave(descriptors).encode())
            with trio.move_on_after(_CLOSE_SECONDS):
                await self._sockets_left.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the template has ended."""
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def end(self) -> None:
        """End the template, when its workers have ended."""
        with contextlib.suppress(OSError):
            self._control.send(STOP)
        for _ in range(2):
            with trio.move_on_after(_END_SECONDS):
                await self._ended.wait()
            self.signal(signal.SIGKILL)
        if self.preloads:
            # A killed template has not ended the processes that the application has started as it was loaded.
            # They are in the template's group; its workers are not.
            signal_group(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Close this process's end of the link."""
        if self._control.fileno() >= 0:
            trio.lowlevel.notify_closing(self._control)
            self._control.close()

    async def wait_for_report(self) -> bool:
        """Wait until `receive` has something to read; False where `close` was called."""
        if self._control.fileno() < 0:
            return False
        try:
            await trio.lowlevel.wait_readable(self._control)
        except trio.ClosedResourceError:
            return False
        return True

    def receive(self, handle: Callable[[Report, list[int]], None]) -> None:
        """Read all reports that have arrived.

        Args:
            handle: called with each report about a worker, and the descriptors that came with it.
        """
        with contextlib.suppress(OSError):  # BlockingIOError: no report is left
            while True:
                data, descriptors, _, _ = socket.recv_fds(
                    self._control, MAX_BYTES, FORK_DESCRIPTORS, _CLOSE_ON_EXEC
                )
                report = Report.decode(data)
                if report is None:
                    continue
                if report.event is ReportEvent.LEFT:
                    self._sockets_left.set()
                elif report.event is ReportEvent.CLOSED:
                    self._sockets_closed.set()
                else:
                    handle(report, descriptors)

    async def wait(self) -> int:
        """Wait for the end of the template; give its exit status, as `os.waitstatus_to_exitcode` does."""
        status = await self._wait_for_end()
        self.has_ended = True
        self._ended.set()
        self._sockets_closed.set()
        self._sockets_left.set()
        return status

    async def _wait_for_end(self) -> int:
        def wait() -> int:
            # Signals are for the main thread, which keeps them pending while the process is handed on.
            signal.pthread_sigmask(signal.SIG_BLOCK, SERVER_SIGNALS)
            return self._wait()

        try:
            process = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return self._wait()
        except (OSError, AttributeError):  # too many open files, a sandbox, or no Linux
            # A limiter for each template: any number of them may drain, and each needs a thread.
            return await trio.to_thread.run_sync(
                wait, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1)
            )
        # This way needs no thread, since at a reload perhaps none can be started.
        try:
            await trio.lowlevel.wait_readable(process)
        finally:
            os.close(process)
        return self._wait()


def _waiter(pid: int) -> Callable[[], int]:
    """Make a function that waits for the end of a child and gives its exit status."""

    def wait() -> int:
        try:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except ChildProcessError:  # the child had ended before it was handed on
            return 0

    return wait


def _arguments() -> tuple[str, ...]:
    return tuple(sys.argv) if len(json.dumps(sys.argv)) <= _MAX_ARGUMENTS else ()


def _longest(blueprint: Blueprint) -> str:
    """Name the option that takes the most room in a message."""
    values = {option_name(it): value for it, value in asdict(blueprint.settings).items()}
    values["APP"] = blueprint.app_name
    return max(values, key=lambda it: len(json.dumps(values[it])))


def _has_current_directory() -> bool:
    """Tell whether this process was started by ``python -m``, so that its import path has the directory of the start."""
    return sys.modules["__main__"].__spec__ is not None


def _directory() -> str | None:
    """Tell where a template is started; None is the directory of this process.

    ``-m`` puts that directory on the import path: it has to be the one where this package was found. The template changes to
    ``--chdir`` by itself. Where the user may not enter that directory, this package can't be there.
    """
    start = starting_place.original_directory() if _has_current_directory() else None
    return start if start is None or os.access(start, os.X_OK, effective_ids=True) else None


def python_command() -> list[str]:
    """Tell how to start Python as this process was started."""
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - multiprocessing takes them from there, too
    # Without -P, `-m` would put the current directory first on the import path: modules of the application, such as
    # a random.py, would replace those of the standard library.
    # Where this process itself was started by `-m`, its path has the current directory already.
    return [sys.executable, *flags, *(() if _has_current_directory() else ("-P",))]
