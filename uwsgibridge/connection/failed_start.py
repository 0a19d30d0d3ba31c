"""Removes the socket files of a start that fails, in directories where only root may remove them.

Root makes the files and then becomes another user, before the application is loaded. Where the start then fails, this
process may not remove its files. So a helper process stays root. It waits for the outcome of the start, and ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NoReturn

from uwsgibridge.config.address import UnixAddress
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.system.forking import fork_process
from uwsgibridge.system.safe_path import UnsafePathError, open_place

_STARTED: Final = b"+"
_FAILED: Final = b"-"

# How long the helper process may take to remove some files, which takes microseconds.
_END_SECONDS: Final = 5.0

_IGNORED: Final = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGTTIN, signal.SIGTTOU,
)  # fmt: skip


@contextlib.contextmanager
def removing_files_unless_started(
    sockets: Sequence[ListeningSocket], user: tuple[int, int] | None
) -> Iterator[Callable[[], None]]:
    """Remove, at the end of a start that fails, the socket files that the user may not remove.

    This works on Linux. Elsewhere such files stay, and the next start replaces them. Enter the context as root,
    before there are threads.

    Args:
        sockets: the listening sockets.
        user: user and group that this process becomes meanwhile; None where it changes neither.

    Yields:
        A function to call when the start has succeeded.
    """
    becomes_another = os.geteuid() == 0 and user is not None and user[0] != 0
    files = [it for it in sockets if becomes_another and _is_in_a_place_of_roots(it)]
    if not files or not hasattr(os, "pidfd_open"):
        yield _do_nothing
        return
    starter = os.getpid()
    of_starter = os.pidfd_open(starter)
    heard, told = os.pipe()
    helper = fork_process()
    if helper == 0:
        _stand_by(heard, of_starter, files)
    os.close(heard)
    os.close(of_starter)
    is_over = False

    def tell(word: bytes) -> None:
        nonlocal is_over
        if is_over or os.getpid() != starter:  # a child that the application has forked
            return
        is_over = True
        with contextlib.suppress(
            OSError
        ):  # the application has closed the socket: the helper notices the end of this process
            os.write(told, word)
            os.close(told)
            _wait_for(helper)

    try:
        yield lambda: tell(_STARTED)
    finally:
        tell(_FAILED)


def _do_nothing() -> None:
    """Do nothing: the callback where no helper process waits."""


def _is_in_a_place_of_roots(listening: ListeningSocket) -> bool:
    if listening.owned_file is None or not isinstance(listening.address, UnixAddress):
        return False
    with contextlib.suppress(OSError, UnsafePathError), open_place(listening.address.path) as place:
        return place.is_roots_alone
    return False


def _wait_for(helper: int) -> None:
    """Wait for the end of the helper process, and reap it, unless the application has done so."""
    descriptor = os.pidfd_open(helper)
    try:
        select.select([descriptor], [], [], _END_SECONDS)
    finally:
        os.close(descriptor)
    os.waitpid(helper, os.WNOHANG)


def _stand_by(heard: int, of_starter: int, files: Sequence[ListeningSocket]) -> NoReturn:
    """Run the helper process: wait for the outcome of the start, and remove the files if the start has failed."""
    try:
        for number in _IGNORED:  # signals to all processes are for the starting one
            signal.signal(number, signal.SIG_IGN)
        _close_all_but(heard, of_starter)
        if _is_failed(heard, of_starter):
            for listening in files:
                listening.remove_file()
    finally:
        os._exit(0)


def _is_failed(heard: int, of_starter: int) -> bool:
    """Wait for the outcome of the start, or for the end of the starting process; True if the start has failed."""
    awaited = [heard, of_starter]
    while True:
        ready, _, _ = select.select(awaited, [], [])
        if heard in ready:
            word = os.read(heard, 1)
            if word:
                return word == _FAILED
            awaited.remove(heard)
        elif of_starter in ready:
            return True


def _close_all_but(*kept: int) -> None:
    low = 0
    for descriptor in sorted(kept):
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))
