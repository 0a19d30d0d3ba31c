"""A child that an application forks while it is served: the child has a copy of everything, and serves nothing.

Without this module, the child would keep open what its parent closes: until the child ends, a client would
wait for the end of an answer, and the next server would wait for the port. Signals to the child would reach
the event loop of its parent. Where the application returns in the child, two processes would answer one
request.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

from uwsgibridge.system.signals import SERVER_SIGNALS
from uwsgibridge.telemetry.line_stream import log_to_descriptor_two
from uwsgibridge.telemetry.stacks import own_traceback

if TYPE_CHECKING:
    from uwsgibridge.loop.interface import HasFileno


Owned: TypeAlias = "Callable[[], Iterable[HasFileno | int]]"

_WHO_TAKES_THEM: Final = frozenset({"uwsgibridge", "trio"})

_owners: list[Owned] = []
_is_copy = False
_mask = threading.local()


def exit_if_copy(status: int = 0) -> None:
    """End this process at once, with this status, if it was forked from the one that serves."""
    if _is_copy:
        _exit(status)


def exit_if_copy_raised(error: BaseException) -> None:
    """End this process as `exit_if_copy`, if the application has raised in it.

    Args:
        error: what the application has raised. Standard error and the exit status tell of it as the
            interpreter does at its own end.
    """
    if not _is_copy:
        return
    if isinstance(error, OSError) and error.errno == errno.ENOTSOCK:
        _exit(0)  # the child was about to answer: its connection is /dev/null by now
    if not isinstance(error, SystemExit):
        _say(f"{own_traceback(error)}\n")
        _exit(1)
    if error.code is None or isinstance(error.code, int):
        _exit(error.code or 0)
    _say(f"{error.code}\n")
    _exit(1)


@contextlib.contextmanager
def kept_from_copies(owned: Owned) -> Iterator[None]:
    """Have a child that is forked meanwhile lose what belongs to the server.

    Args:
        owned: called in the child; gives the server's open listening sockets, connections and the like.
            The child then has `os.devnull` under each of their numbers. So no number comes to stand for
            another file, and the parent's event loop goes on watching the parent's files.
    """
    global _is_copy  # noqa: PLW0603 - what a process is
    _is_copy = False  # a forked child may serve by itself later
    _owners.append(owned)
    try:
        yield
    finally:
        if owned in _owners:  # a copy has an empty list
            _owners.remove(owned)


def _block_signals() -> None:
    """Block signals around a fork, until the child has its own handlers: a Pool may end its workers right after it."""
    if _owners:
        _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, SERVER_SIGNALS)


def _let_signals_through() -> None:
    before = _mask.__dict__.pop("before", None)
    if before is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _become_copy() -> None:
    global _is_copy  # noqa: PLW0603 - what a process is
    owners = _owners.copy()
    _owners.clear()
    try:
        if owners:
            _is_copy = True
            _reset_signals()
            _point_to_devnull(it for owned in owners for it in owned())
            log_to_descriptor_two()
    finally:
        _let_signals_through()


def _reset_signals() -> None:
    # Parent and child share the wake-up socket: each signal to the child would wake the parent's loop.
    signal.set_wakeup_fd(-1)
    for number in SERVER_SIGNALS:
        if _is_ours(signal.getsignal(number)):
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)


def _is_ours(handler: Any) -> bool:
    # The module of a handler tells whose it is: children keep the handlers that the application has set.
    module = getattr(handler, "__module__", None) or ""
    return callable(handler) and module.partition(".")[0] in _WHO_TAKES_THEM


def _point_to_devnull(owned: Iterable[HasFileno | int]) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for it in owned:
        descriptor = it if isinstance(it, int) else it.fileno()
        if descriptor >= 0:
            os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(text)


def _exit(status: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        # The reader may be gone, and the stream may be closed or None.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status & 0xFF)


# The handlers can't be removed again. So they are registered once, and look at `_owners` at each fork.
os.register_at_fork(
    before=_block_signals,
    after_in_parent=_let_signals_through,
    after_in_child=_become_copy,
)
