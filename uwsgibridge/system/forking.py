"""Forking where threads may run, on each Python and whatever its warnings do."""

from __future__ import annotations

import os
import warnings


def fork_process() -> int:
    """Fork this process as `os.fork` does, without the warning about threads.

    From Python 3.12 on, `os.fork` warns in the parent after the fork if the process has several threads. Where warnings
    are errors, Python 3.15 raises it, so that the parent would not know its child.

    Returns:
        0 in the child; the child's number in the parent.

    Raises:
        OSError: no process can be made.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", r".*multi-threaded, use of fork\(\)", category=DeprecationWarning
        )
        return os.fork()
