"""Tells the kernel which process to kill first when memory runs out."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Final

# proc_pid_oom_score_adj(5).
_OOM_SCORE: Final = Path("/proc/self/oom_score_adj")
_MAX_OOM_SCORE: Final = 1000


def raise_oom_score(by: int) -> None:
    """Have the OOM killer take this process, and those that it forks, before its parent.

    Does nothing on other systems than Linux, and where the system refuses it.

    Args:
        by: added to the score of the process, up to 1000 in all; 0 changes nothing.
    """
    if by <= 0 or sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        score = int(_OOM_SCORE.read_bytes()) + by
        _OOM_SCORE.write_bytes(b"%d" % min(score, _MAX_OOM_SCORE))
