"""Which children of this process are programs that somebody waits for, so that nobody else reaps them."""

from __future__ import annotations

from typing import Final

# Each program adds its own, and removes it when it was reaped.
PIDS_OF_PROGRAMS: Final[set[int]] = set()
