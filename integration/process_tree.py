"""What a supervisor has: its templates, their workers, its open files. Linux."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from pathlib import Path
from time import monotonic, sleep

from integration.workers import PATIENCE_SECONDS
from tests.processes import children_of
from uwsgibridge.control.client import ControlConnection


def family(supervisor: int) -> dict[int, set[int]]:
    """List the workers of each template."""
    return {it: set(children_of(it)) for it in children_of(supervisor)}


def everybody(supervisor: int) -> set[int]:
    """List all processes below a supervisor."""
    templates = family(supervisor)
    return set(templates).union(*templates.values())


def open_files(pid: int) -> Counter[str]:
    """Count the open files of a process by their kind; those on disk are named."""
    found: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found[re.sub(r":\[\d+\]$", "", str(entry.readlink()))] += 1
    return found


def settle(
    supervisor: int, control_socket: Path, workers: int, files: Counter[str] | None = None
) -> Counter[str]:
    """Wait until a supervisor has one template with so many workers, and no other process.

    Args:
        supervisor: its pid.
        control_socket: of it.
        workers: how many.
        files: what this gave before, if it is to be the same again.

    Returns:
        The supervisor's open files, one connection to its control socket among them.
    """
    deadline = monotonic() + PATIENCE_SECONDS
    found: object = None
    with ControlConnection(control_socket) as connection:
        while monotonic() < deadline:
            # Its loop has had a turn: it has taken leave of who has ended meanwhile.
            told = {it["pid"] for it in connection.ask("status")["workers"]}
            found = templates, opened = family(supervisor), open_files(supervisor)
            is_alone = len(told) == workers and list(templates.values()) == [told]
            if is_alone and (files is None or files == opened):
                return opened
            # Asking without a pause takes the CPU from the processes that are waited for.
            sleep(0.02)
    raise AssertionError(f"not {workers} workers of one template and {files}, but {found}")
