"""Which process the kernel ends first when memory runs out."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Final

# proc_pid_oom_score_adj(5).
_OOM_SCORE: Final = Path("/proc/self/oom_score_adj")
_MAX_OOM_SCORE: Final = 1000


def raise_oom_score(by: int) -> None:
    """Have the OOM killer prefer this process, and those that it forks, to its parent.

    Linux; does nothing elsewhere, nor where the system refuses it.

    Args:
        by: added to the score that the process has, up to 1000 in all; 0 leaves it.
    """
    if by <= 0 or sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        score = int(_OOM_SCORE.read_bytes()) + by
        _OOM_SCORE.write_bytes(b"%d" % min(score, _MAX_OOM_SCORE))
