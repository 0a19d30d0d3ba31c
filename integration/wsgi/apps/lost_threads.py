"""Threads that are lost: requests that hang in each of their states, and exceptions raised from outside."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from .checked import checked

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

TEXT: Final = [("Content-Type", "text/plain")]

# Longer than any test; a daemon thread that waits keeps nobody.
_FOR_EVER_SECONDS: Final = 600.0

_gate = threading.Event()
_changed = threading.Condition()
_made: Final[list[str]] = []
_closed: Final[list[str]] = []
_idents: Final[list[int]] = []


class Closing:
    """An iterable whose close() is remembered, and may hang."""

    def __init__(self, name: str, items: Iterable[bytes], *, hangs: bool = False) -> None:
        self._name = name
        self._items = items
        self._hangs = hangs
        _made.append(name)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._items)

    def close(self) -> None:
        if self._hangs:
            hang_at_the_gate()
        with _changed:
            _closed.append(self._name)
            _changed.notify_all()


def hang_at_the_gate() -> None:
    """Hang, under a name that is looked for in the log."""
    _gate.wait(_FOR_EVER_SECONDS)


def open_gate() -> None:
    """Let all go on, and tell how often each iterable was closed; for ``--on-worker-exit``."""
    _gate.set()
    with _changed:
        _changed.wait_for(lambda: len(_closed) >= len(_made), timeout=10)
        tell("closed", closed=Counter(_closed), made=Counter(_made))


def tell_birth() -> None:
    """Tell of a new process; for ``--on-fork``."""
    tell("born")


def tell(event: str, **facts: object) -> None:
    """Write an event to the log that the bridge writes to as well."""
    sys.stderr.write(json.dumps({"event": f"app: {event}", **facts}) + "\n")
    sys.stderr.flush()


def interrupt(_number: int, _frame: object) -> None:
    """Raise something in the thread of the last request, as libraries with a timeout do."""
    # Once it is done with that request: its innermost call is then the host's own loop.
    while sys._current_frames()[_idents[-1]].f_code.co_name not in {"_work", "serve"}:
        threading.Event().wait(0.001)
    raised = ctypes.py_object(TimeoutError)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(_idents[-1]), raised)
    tell("interrupts")


signal.signal(signal.SIGUSR2, interrupt)


def _handle(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    name = environ["PATH_INFO"].strip("/")
    environ["wsgi.errors"].write(f"at /{name}\n")
    return HANDLERS[name](environ, start_response, name)


def quick(environ: Environ, start_response: StartResponse, name: str) -> Iterable[bytes]:
    """Tell which process this is; its thread is the one to be interrupted."""
    _idents.append(threading.get_ident())
    start_response("200 OK", TEXT)
    return [str(os.getpid()).encode()]


def before_the_head(environ: Environ, start_response: StartResponse, name: str) -> Iterable[bytes]:
    hang_at_the_gate()
    start_response("200 OK", TEXT)
    return Closing(name, [b"late"])


def in_the_body(environ: Environ, start_response: StartResponse, name: str) -> Iterable[bytes]:
    def items() -> Iterator[bytes]:
        yield b"the first half"
        hang_at_the_gate()
        yield b"late"

    length = [("Content-Length", "18")] if "measured" in name else []
    start_response("200 OK", TEXT + length)
    return Closing(name, items())


def in_a_write(environ: Environ, start_response: StartResponse, name: str) -> Iterable[bytes]:
    """Send far more than the kernel and Nginx hold on the way to a client that does not read."""
    start_response("200 OK", TEXT)
    return Closing(name, [bytes(1024 * 1024)] * 16)


def in_a_loop(environ: Environ, start_response: StartResponse, name: str) -> Iterable[bytes]:
    """Compute without an end; the thread is told of."""
    _idents.append(threading.get_ident())
    while True:
        pass


def thread(environ: Environ, start_response: StartResponse, name: str) -> Iterable[bytes]:
    """Tell which process this is, and whether its thread has been in a loop without an end."""
    start_response("200 OK", TEXT)
    return [f"{os.getpid()} {threading.get_ident() in _idents}".encode()]


def in_close(environ: Environ, start_response: StartResponse, name: str) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return Closing(name, [b"the whole answer"], hangs=True)


HANDLERS: Final[dict[str, Callable[[Environ, StartResponse, str], Iterable[bytes]]]] = {
    "quick": quick,
    "thread": thread,
    "in-a-loop": in_a_loop,
    "before-the-head": before_the_head,
    "before-the-head-of-an-upload": before_the_head,
    "in-the-body": in_the_body,
    "in-the-body-of-an-upload": in_the_body,
    "in-the-body-of-a-measured-upload": in_the_body,
    "in-a-write": in_a_write,
    "in-close": in_close,
}

application = checked(_handle)
