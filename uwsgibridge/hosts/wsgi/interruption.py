"""Raises an exception in the thread of a request that is over its time, and never in a later request.

Python raises such an exception at a later step of the thread (`PyThreadState_SetAsyncExc`). By then, the thread may
have left the application. These rules keep the exception within its request:

1. Only who takes a request out of the host's table of running requests interrupts its thread, and once at the most.
2. The thread calls `Interruption.hold_off` where it leaves the application's code. It calls `finish` before it takes
   another request.
3. `attempt` sets its flag before it looks whether the thread holds it off. `hold_off` sets its own flag before it
   looks whether there is an attempt, and waits for the end of an attempt. So whichever comes second sees the first,
   and nothing is raised any more once `hold_off` has waited.
4. At most one exception was raised before. `hold_off` has it arrive before it returns.

Without the GIL, nobody can see where a thread is (`frames_of_threads`), so that no thread is interrupted.

No step takes a lock, and each may be done twice: the exception may arrive between any two steps, and then they are
done again on the way out.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection
from pathlib import Path
from time import monotonic, sleep
from types import CodeType, FrameType
from typing import Final

from uwsgibridge.hosts.wsgi import input as wsgi_input
from uwsgibridge.telemetry.stacks import frames_of_threads, is_ours

_LIBRARY: Final = str(Path(threading.__file__).parent) + os.sep

# Modules in which no thread is interrupted. All requests share their objects, and an exception between two of their
# steps would leave a lock held, a queue miscounted, or a clean-up undone.
_LEFT_ALONE: Final = tuple(
    _LIBRARY + name
    for name in (
        "threading.py",
        "queue.py",
        f"concurrent{os.sep}",
        f"logging{os.sep}",
        "weakref.py",
        "_weakrefset.py",
        "contextlib.py",
    )
)

# The method by which code without `with` takes a lock.
_TAKES_LOCK: Final = "acquire"

# How many jumps back to make, at each of which Python looks for such an exception. The first one is enough.
_JUMPS: Final = 1000

# How long to wait for an attempt, which takes less if its thread gets a processor.
_ATTEMPT_SECONDS: Final = 0.0001


class RequestInterrupted(BaseException):
    """Raised in the application's code when a WSGI request is over its time; its client has an answer already.

    It is no `Exception`, so that an application which catches its own failures does not catch it.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments or ("it took too long (--request-timeout-seconds)",))


class Interruption:
    """Interrupts the thread of one request; made by who gives the request up.

    Args:
        thread: the thread that runs the request.
        callers: code of the bridge's functions that call the application. Functions of the bridge that the
            application calls, such as ``start_response``, are not interrupted.

    Attributes:
        finished_at: when the thread was done with the request (`time.monotonic`); None before.
    """

    def __init__(self, thread: threading.Thread, callers: Collection[CodeType]) -> None:
        self._ident = thread.ident or 0
        self._callers = callers
        self._is_attempting = False
        self._is_held_off = False
        self._was_raised = False
        self.finished_at: float | None = None

    def attempt(self) -> bool:
        """Raise `RequestInterrupted` in the thread once, if the thread is at a place where that does no harm.

        This never waits. Two threads must not call it at a time.

        Returns:
            Whether the exception was raised, now or before. It arrives at the thread's next step in Python.
        """
        if not self._was_raised:
            self._is_attempting = True
            try:
                if not self._is_held_off and self._may_be_raised():
                    self._was_raised = _raise_in(self._ident, RequestInterrupted)
            finally:
                self._is_attempting = False
        return self._was_raised

    def hold_off(self) -> None:
        """Keep exceptions from this thread, which has left the application's code, after the return.

        The exception may arrive in the middle of this method. Then the method has to be called again.
        """
        self._is_held_off = True
        while self._is_attempting:
            sleep(_ATTEMPT_SECONDS)
        if self._was_raised:
            self._let_arrive()

    def go_on(self) -> None:
        """Allow attempts again, because the thread is about to call the application."""
        self._is_held_off = False

    def finish(self) -> None:
        """Record that the thread is done with the request: the exception does not arrive after the return.

        The exception may arrive in the middle of this method. Then the method has to be called again.
        """
        self.hold_off()
        if self.finished_at is None:
            self.finished_at = monotonic()

    def _let_arrive(self) -> None:
        """Have the exception arrive here, if it has not arrived yet."""
        try:
            # A thread has room for one such exception. This one replaces the one that may be on its way, so that
            # exactly one arrives here. To take an exception back (NULL) would make CPython 3.11 and 3.12 look for
            # one at each jump of each thread from then on.
            _raise_in(self._ident, RequestInterrupted)
            # The loop ends only where somebody else has taken the exception back.
            for _ in range(_JUMPS):
                pass
        except RequestInterrupted:
            pass

    def _may_be_raised(self) -> bool:
        frame: FrameType | None
        frame = frames_of_threads().get(self._ident)
        if frame is None or not _is_of_application(frame):
            return False
        if frame.f_code.co_filename.startswith(_LEFT_ALONE) or _may_take_lock(frame):
            return False
        while frame is not None and _is_of_application(frame):
            frame = frame.f_back
        # The frame of a module that is being imported is no caller either: the module would stay half made.
        return frame is not None and frame.f_code in self._callers


def _is_of_application(frame: FrameType) -> bool:
    # Only this thread has the body of its request, so that reading it may be interrupted.
    file = frame.f_code.co_filename
    return file == wsgi_input.__file__ or not is_ours(file)


def _may_take_lock(frame: FrameType) -> bool:
    """Whether a thread is in a call that takes a lock, which it would then never release.

    Python raises the exception when the call has returned. At that point, the block of ``try`` or ``with`` that
    releases the lock has not begun.
    """
    import dis  # imported here, since most processes never need it

    code, offset = frame.f_code, frame.f_lasti
    if dis.opname[code.co_code[max(0, offset - 2)]] == "LOAD_SPECIAL":
        # The beginning of a `with`: from Python 3.14 on, its __enter__ is a separate call.
        return True
    return _TAKES_LOCK in code.co_names and any(
        instruction.argval == _TAKES_LOCK
        for instruction in dis.get_instructions(code)
        if instruction.positions and instruction.positions.lineno == frame.f_lineno
    )


def _raise_in(ident: int, kind: type[BaseException]) -> bool:
    """Raise an exception in a thread at its next step.

    Returns:
        Whether it was raised; False where this Python can't do that, or there is no such thread.
    """
    try:
        import ctypes  # imported here, since most processes never need it
    except ImportError:  # Python was built without libffi
        return False
    # The brackets make a function object of our own: the argument types that a library sets do not hold for it.
    function = ctypes.pythonapi["PyThreadState_SetAsyncExc"]
    function.argtypes = (ctypes.c_ulong, ctypes.py_object)
    return bool(function(ident, kind))
