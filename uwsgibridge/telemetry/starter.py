"""Tells whoever has started this process that the start has failed, where ``--log-file`` takes the reason to a file.

A terminal, systemd's journal and a container's log would have an exit status alone. They are told up to the moment at which requests
are accepted: after that, nobody waits for the outcome, and a pipe that stays open would keep `ssh` from returning.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

_STANDARD_ERROR: Final = 2

# The descriptor that is kept, and its file: an application may have closed it, and have another file of that number.
_kept: dict[int, os.stat_result] = {}


@contextlib.contextmanager
def keeping_starter() -> Iterator[None]:
    """Keep what standard error leads to now, unless the block fails, which then has redirected nothing."""
    forget_starter()
    with contextlib.suppress(OSError):  # it is closed
        descriptor = os.dup(_STANDARD_ERROR)
        _kept[descriptor] = os.fstat(descriptor)
    try:
        yield
    except BaseException:
        forget_starter()
        raise


def tell_starter(text: str) -> None:
    """Write a line there, where it is kept, and forget it."""
    for descriptor, file in _kept.items():
        with contextlib.suppress(OSError):  # nobody reads it
            if os.path.samestat(os.fstat(descriptor), file):
                os.write(descriptor, f"{text}\n".encode(errors="backslashreplace"))
    forget_starter()


def forget_starter() -> None:
    """Close it: the start is over."""
    while _kept:
        descriptor, file = _kept.popitem()
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), file):
                os.close(descriptor)


os.register_at_fork(after_in_child=forget_starter)
