"""Sets how long a computing thread may keep the interpreter from other threads of a worker."""

from __future__ import annotations

import sys
from typing import Final

# Python's default (DEFAULT_INTERVAL of CPython's Python/ceval_gil.c).
PYTHON_DEFAULT_SECONDS: Final = 0.005


def shorten_switch_interval(seconds: float) -> None:
    """Let threads take the interpreter from each other sooner than Python would.

    While another request computes, a request waits for up to one interval at each of its system calls. An interval
    that somebody else has set, such as the application when it was imported, is not changed.

    Args:
        seconds: the interval; 0 changes nothing.
    """
    if seconds and sys.getswitchinterval() == PYTHON_DEFAULT_SECONDS:
        sys.setswitchinterval(seconds)
