"""Reads what options name as a file, where that may also be a pipe that nobody writes to."""

from __future__ import annotations

import os
import select
import stat
from time import monotonic
from typing import Final

# How long all of a pipe may take to come, such as that of bash's <(command).
PIPE_SECONDS: Final = 30.0
_PIECE_BYTES: Final = 64 * 1024


def read_start(
    path: str, most_bytes: int, *, seconds: float = PIPE_SECONDS, is_read_again: bool = False
) -> bytes:
    """Read a file, or what comes through a pipe.

    Args:
        path: of the file.
        most_bytes: how many are read at the most; there may be more.
        seconds: how long all of it may take, where it is no regular file.
        is_read_again: whether it will be read again, which a pipe can't be.

    Raises:
        OSError: it can't be read, is a pipe that would be read again, or does not come in time.
        ValueError: the path has a null character.
    """
    # Opening a pipe that nobody writes to would wait for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if is_read_again and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
            raise OSError(0, "it is a pipe, which can be read only once; write it to a file")
        return read_descriptor(descriptor, most_bytes, seconds=seconds)
    finally:
        os.close(descriptor)


def read_descriptor(descriptor: int, most_bytes: int, *, seconds: float) -> bytes:
    """Read as `read_start` does, from what is open already.

    Raises:
        OSError: it can't be read, or does not come in time.
    """
    is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    deadline = monotonic() + seconds
    pieces = []
    left = most_bytes
    while left > 0:
        if not is_file and not _wait_for_data(descriptor, deadline):
            raise OSError(0, f"nothing more came within {seconds:g} seconds")
        piece = os.read(descriptor, min(left, _PIECE_BYTES))
        if not piece:
            break
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _wait_for_data(descriptor: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(deadline - monotonic(), 0) * 1000))
