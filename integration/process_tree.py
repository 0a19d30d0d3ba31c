"""What a supervisor has: its templates, their workers, its open files. Linux."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from pathlib import Path

from uwsgibridge.control_client import ask


def family(supervisor: int) -> dict[int, set[int]]:
    """List the workers of each template."""
    return {template: _children(template) for template in _children(supervisor)}


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


def settled(supervisor: int, control_socket: Path, workers: int, *, rounds: int = 200) -> bool:
    """Ask the supervisor again until it has one template, so many workers, and nothing else."""
    for _ in range(rounds):
        # An answer from the loop that takes leave of those that have ended.
        status = ask(control_socket, "status")
        templates = family(supervisor)
        if [len(it) for it in templates.values()] == [workers] == [len(status["workers"])]:
            return True
    return False


def _children(pid: int) -> set[int]:
    found: set[int] = set()
    for entry in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found |= {int(it) for it in entry.read_text().split()}
        except (FileNotFoundError, ProcessLookupError):  # the thread or process has ended
            continue
    return found
