"""Starts the program that takes a supervisor's process over, and puts the old program back where that fails.

The old program has the text of this file in memory, and starts it by exec: ``python /proc/self/fd/N``. So the guard
is of the old version, imports the standard library alone, and works also with a broken installation. It runs the
new program in this process. Where the new program ends, raises or hangs before it calls `taken_over`, the process
becomes the old program again, from its modules in memory and with all the descriptors that it had handed on.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import runpy
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

# The variable that tells the guard what to start. It is also the name of the module by which the started program
# finds its guard.
VARIABLE: Final = "UWSGIBRIDGE_TAKEOVER"
MODULE: Final = "_uwsgibridge_takeover"

# Options of Python whose value may be the next argument.
_WITH_VALUE: Final = ("-W", "-X", "--check-hash-based-pycs")


class Guard:
    """Watches the start of one program.

    Args:
        told: what the old program tells the guard.
        environ: the environment, which the old program gets again if it is put back.

    Attributes:
        reason: why the process has come back to the old program; empty in a start of the new one.
        code: a descriptor of the old program's modules, a zip archive.
        guard: a descriptor of the text of this file.
    """

    def __init__(self, told: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self.reason: str = told["reason"]
        self.code: int = told["code"]
        self.guard: int = told["guard"]
        self.arguments: list[str] = told["arguments"]
        self._told = told
        self._environ = dict(environ)
        # The new program may change to another directory before it fails.
        self._directory = str(Path.cwd())
        self._lock = threading.Lock()
        self._is_over = False
        self._over = threading.Event()
        for descriptor in (self.code, self.guard):
            os.set_inheritable(descriptor, False)
        # Copies, because the new program may close its descriptors before it fails.
        self._kept = {} if self.reason else _copies()

    def watch(self) -> None:
        """Start the deadline by which the new program must have taken over."""
        if not self.reason:
            threading.Thread(target=self._wait, name="takeover", daemon=True).start()

    def taken_over(self) -> None:
        """Record that the new program serves; the old one is not put back any more."""
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
            self._over.set()
            for copy in self._kept.values():
                os.close(copy)
            if not self.reason:
                os.close(self.code)
                os.close(self.guard)

    def failed(self, reason: str) -> None:
        """Become the old program again, if the new one has not taken over; else do nothing."""
        self._lock.acquire()  # never released: the exec ends all threads
        if self._is_over or self.reason:
            self._lock.release()
            return
        signal.pthread_sigmask(signal.SIG_BLOCK, set(self._told["signals"]))
        with contextlib.suppress(OSError):  # the directory is gone, and the old program says so
            os.chdir(self._directory)
        for descriptor, copy in self._kept.items():
            os.dup2(copy, descriptor)
        for descriptor in (self.code, self.guard):
            os.set_inheritable(descriptor, True)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        told = json.dumps({**self._told, "reason": reason})
        os.execve(  # noqa: S606 - our own program
            sys.executable,
            command(self.arguments, self.guard),
            {**self._environ, VARIABLE: told},
        )

    def _wait(self) -> None:
        seconds = self._told["seconds"]
        if not self._over.wait(seconds):
            self.failed(f"it has not taken over within {seconds:g} s")


def command(arguments: Sequence[str], guard: int) -> list[str]:
    """Give the command that starts this text with the Python and the options of a command line.

    Args:
        arguments: the command line, as `sys.orig_argv` has it.
        guard: a descriptor of this text.
    """
    flags, _, _ = split(arguments)
    return [sys.executable, *flags, f"/proc/self/fd/{guard}", *arguments[len(flags) + 1 :]]


def split(arguments: Sequence[str]) -> tuple[list[str], str, list[str]]:
    """Split a command line of Python.

    Returns:
        The interpreter's options; the kind of the program: ``-m``, ``-c``, or empty for a path; and the
        program's name with its arguments.
    """
    at = 1
    while at < len(arguments):
        argument = arguments[at]
        if argument in {"-m", "-c"}:
            return list(arguments[1:at]), argument, list(arguments[at + 1 :])
        if not argument.startswith("-") or argument == "-":
            break
        at += 2 if argument in _WITH_VALUE else 1
    return list(arguments[1:at]), "", list(arguments[at:])


def _copies() -> dict[int, int]:
    """Copy each inherited descriptor except the standard ones."""
    copies = {}
    for descriptor in [int(it.name) for it in Path("/proc/self/fd").iterdir()]:
        with contextlib.suppress(OSError):  # the descriptor of the listing itself is closed by now
            if descriptor > 2 and os.get_inheritable(descriptor):
                copies[descriptor] = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    return copies


def _run(arguments: list[str], code: int | None) -> None:
    """Run a program as Python itself would, with modules from an archive first where there is one."""
    sys.orig_argv[:] = arguments
    _, kind, program = split(arguments)
    sys.argv[:] = program
    if not sys.flags.safe_path:
        script = str(Path(program[0]).resolve().parent)
        sys.path[0] = {"-m": str(Path.cwd()), "-c": ""}.get(kind, script)
    if code is not None:
        sys.path.insert(0, f"/proc/self/fd/{code}")
    if kind == "-c":
        exec(compile(program[0], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - as Python does
    elif kind == "-m":
        runpy.run_module(program[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(program[0], run_name="__main__")


def main() -> None:
    """Start the program; raise what it raises after it has taken over."""
    told = json.loads(os.environ.pop(VARIABLE))
    guard = Guard(told, os.environ)
    sys.modules[MODULE] = module = ModuleType(MODULE)
    module.guard = guard  # type: ignore[attr-defined]
    guard.watch()
    try:
        _run(list(guard.arguments), guard.code if guard.reason else None)
    except BaseException as error:
        if not (guard.reason or isinstance(error, SystemExit)):
            traceback.print_exc()
        guard.failed(_describe(error))
        raise
    guard.failed("it ended")


def _describe(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it ended with status {error.code or 0}"
    return "".join(traceback.format_exception_only(error)).strip()


if __name__ == "__main__":
    main()
