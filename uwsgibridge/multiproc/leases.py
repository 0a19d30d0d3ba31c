"""Tells whether any process has a file open for writing, and keeps it so for a while.

Numbers of processes do not tell it: they are given again, differ between namespaces, and an application may put others in
their place. A lease (fcntl(2), F_SETLEASE) of the kind F_RDLCK is granted only where nobody writes, which includes
mappings, and who opens the file for writing then waits until the lease is given back.
"""

from __future__ import annotations

import fcntl
import os
import signal
from enum import Enum, auto
from typing import Final

# The kernel tells the holder of a lease by a signal that somebody waits. SIGIO, which is the default, would end the process;
# this one is ignored by default.
_SIGNAL: Final = signal.SIGURG

# Linux alone has them.
_SET_SIGNAL: Final[int] = getattr(fcntl, "F_SETSIG", -1)
_SET_LEASE: Final[int] = getattr(fcntl, "F_SETLEASE", -1)
_GET_LEASE: Final[int] = getattr(fcntl, "F_GETLEASE", -1)


class Writers(Enum):
    """Who has a file open for writing."""

    SOME = auto()
    NONE = auto()
    UNKNOWN = (
        auto()
    )  # the system or the file system has no leases, or the file belongs to another user


def take_lease(descriptor: int) -> Writers:
    """Take a lease on a file, if nobody has it open for writing. Closing the descriptor gives it back.

    Args:
        descriptor: of the file, open for reading.
    """
    if _SET_LEASE < 0:
        return Writers.UNKNOWN
    try:
        fcntl.fcntl(descriptor, _SET_SIGNAL, _SIGNAL)
        fcntl.fcntl(descriptor, _SET_LEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return Writers.SOME
    except OSError:
        return Writers.UNKNOWN
    return Writers.NONE


def somebody_waits(descriptor: int) -> bool:
    """Whether a process waits to open the file for writing, for which a lease was taken."""
    return fcntl.fcntl(descriptor, _GET_LEASE) != fcntl.F_RDLCK


def is_alive(identifier: str) -> bool:
    """Whether there may be a process of this name; one that is not a number is never known to be gone."""
    try:
        os.kill(int(identifier), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OSError, OverflowError):
        pass
    return True
