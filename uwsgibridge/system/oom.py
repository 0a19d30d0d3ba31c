"""Tells the kernel which process to kill first when memory runs out."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Final

# proc_pid_oom_score_adj(5).
_MAX_OOM_SCORE: Final = 1000


def raise_oom_score(by: int, pid: int | str = "self") -> None:
    """Have the OOM killer take a process, and those that it forks, before its parent.

    Does nothing on other systems than Linux, and where the system refuses it.

    Args:
        by: added to the score of the process, up to 1000 in all; 0 changes nothing.
        pid: of the process; this one by default.
    """
    if by <= 0 or sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        path = Path(f"/proc/{pid}/oom_score_adj")
        score = int(path.read_bytes()) + by
        path.write_bytes(b"%d" % min(score, _MAX_OOM_SCORE))
