"""Reaps orphaned processes where the supervisor is process 1, as in a container."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection


def reap_orphans(spared: Collection[int]) -> None:
    """Reap the ended children that nobody else waits for; the kernel makes orphans the children of process 1.

    Args:
        spared: the pids of children that somebody else waits for. At the first of these that has ended, reaping
            stops until it was waited for.
    """
    with contextlib.suppress(ChildProcessError):
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid in spared:
                return
            os.waitpid(ended.si_pid, 0)
