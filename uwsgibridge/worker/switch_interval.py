"""How long a thread that computes may keep the interpreter from the others of a worker."""

from __future__ import annotations

import sys
from typing import Final

# Python's own: DEFAULT_INTERVAL of CPython's Python/ceval_gil.c, in seconds.
PYTHON_DEFAULT_SECONDS: Final = 0.005


def shorten_switch_interval(seconds: float) -> None:
    """Let threads take the interpreter from each other sooner than Python would.

    A request that waits for the interpreter waits for up to one interval at each of its system calls while another
    computes. An interval that somebody has set, such as the application when it was imported, is left alone.

    Args:
        seconds: the interval; 0 changes nothing.
    """
    if seconds and sys.getswitchinterval() == PYTHON_DEFAULT_SECONDS:
        sys.setswitchinterval(seconds)
