"""An exception that is raised in the thread of a request over its time, and never in a later request.

Python raises such an exception at some later step of the thread (`PyThreadState_SetAsyncExc`), when the
thread may have left the application. These rules keep the exception within its request:

1. Only who takes a request out of the host's table of what runs interrupts its thread, and once at most.
2. The thread calls `Interruption.hold_off` where it leaves the application's code, and it calls `finish`
   before it takes another request.
3. `attempt` says that it is at it before it looks whether the thread holds it off; `hold_off` says that it
   does before it looks whether there is an attempt, and waits for the end of that. So one of them sees the
   other, whichever is first, and nothing is raised any more once `hold_off` has waited.
4. What was raised before is one exception. `hold_off` has it arrive before it returns.

None of these steps takes a lock, and each may be done twice: the exception may arrive between any two, and
then they are done again on the way out.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Collection
from pathlib import Path
from time import monotonic, sleep
from types import CodeType, FrameType
from typing import Final

from uwsgibridge.hosts.wsgi import input as wsgi_input
from uwsgibridge.telemetry.stacks import is_ours

_LIBRARY: Final = str(Path(threading.__file__).parent) + os.sep

# All requests share what is behind these, and an exception between two of their steps would leave a lock
# held, a queue miscounted, or a clean-up undone.
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

# The name by which locks are taken where there is no `with`.
_TAKES_LOCK: Final = "acquire"

# Python looks for such an exception at each jump back; at the first one, in fact.
_JUMPS: Final = 1000

# An attempt takes less, unless there is no processor for it.
_ATTEMPT_SECONDS: Final = 0.0001


class RequestInterrupted(BaseException):
    """Raised in the application's code when a WSGI request is over its time; its client has its answer.

    It is no `Exception`, so that what an application does about its own failures does not keep it.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments or ("it took too long (--request-timeout-seconds)",))


class Interruption:
    """What one thread is told about one request; made by who gives the request up.

    Args:
        thread: which runs the request.
        callers: functions of ours by which the application is called; what it calls of ours, such as
            ``start_response``, is left alone.

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
        """Raise `RequestInterrupted` in the thread, if it is at a place where that does no harm; once.

        Waits for nothing. Not to be called by two threads at a time.

        Returns:
            Whether it has been raised, now or before. The thread meets it at its next step in Python.
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
        """Have nothing arrive in this thread, which has left the application's code, from the return on.

        The exception may arrive in the middle of this; then this has to be called again.
        """
        self._is_held_off = True
        while self._is_attempting:
            sleep(_ATTEMPT_SECONDS)
        if self._was_raised:
            self._let_arrive()

    def go_on(self) -> None:
        """Take it that the thread is about to call the application again."""
        self._is_held_off = False

    def finish(self) -> None:
        """Record that the thread is done with the request: the exception does not arrive after the return.

        It may arrive in the middle of this; then this has to be called again.
        """
        self.hold_off()
        if self.finished_at is None:
            self.finished_at = monotonic()

    def _let_arrive(self) -> None:
        """Have the exception arrive here, where it has not arrived yet."""
        try:
            # A thread has room for one such exception: this one replaces what is on its way, so that one
            # arrives here in any case. To take it back (NULL) would have CPython 3.11 and 3.12 look for
            # it at each jump of each thread from then on.
            _raise_in(self._ident, RequestInterrupted)
            # They end only where somebody else has taken it back.
            for _ in range(_JUMPS):
                pass
        except RequestInterrupted:
            pass

    def _may_be_raised(self) -> bool:
        frame: FrameType | None
        frame = sys._current_frames().get(self._ident)  # noqa: SLF001 - a documented function
        if frame is None or not _is_of_application(frame):
            return False
        if frame.f_code.co_filename.startswith(_LEFT_ALONE) or _may_take_lock(frame):
            return False
        while frame is not None and _is_of_application(frame):
            frame = frame.f_back
        # A module that is being imported would be left half made, so that frame is none of these either.
        return frame is not None and frame.f_code in self._callers


def _is_of_application(frame: FrameType) -> bool:
    # Who reads the body of a request that was given up is alone with it.
    file = frame.f_code.co_filename
    return file == wsgi_input.__file__ or not is_ours(file)


def _may_take_lock(frame: FrameType) -> bool:
    """Whether a thread is in a call that takes a lock, which it would never give back.

    Python raises the exception when the call has returned, and with that before the block of ``try`` or
    ``with`` that gives the lock back has begun.
    """
    import dis  # here, since most processes never need it

    code, offset = frame.f_code, frame.f_lasti
    if dis.opname[code.co_code[max(0, offset - 2)]] == "LOAD_SPECIAL":
        return True  # the beginning of a `with`, which is a call of its own from Python 3.14 on
    return _TAKES_LOCK in code.co_names and any(
        instruction.argval == _TAKES_LOCK
        for instruction in dis.get_instructions(code)
        if instruction.positions and instruction.positions.lineno == frame.f_lineno
    )


def _raise_in(ident: int, kind: type[BaseException]) -> bool:
    """Have a thread meet an exception at its next step.

    Returns:
        False where this Python can't do that, or there is no such thread.
    """
    try:
        import ctypes  # here, since most processes never need it
    except ImportError:  # Python was built without libffi
        return False
    # By its name in brackets it is ours alone: what a library says of its arguments is not said of it.
    function = ctypes.pythonapi["PyThreadState_SetAsyncExc"]
    function.argtypes = (ctypes.c_ulong, ctypes.py_object)
    return bool(function(ident, kind))
