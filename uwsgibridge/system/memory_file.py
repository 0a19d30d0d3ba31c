"""A file without a path, by which one process gives data to another; it is in memory where the system can."""

from __future__ import annotations

import os
import tempfile


def make_memory_file(name: str) -> int:
    """Make an empty file that vanishes when nobody has it open any more.

    Args:
        name: shown by /proc; several files may have the same.

    Returns:
        A descriptor, which the caller closes; programs that are started do not inherit it.
    """
    if hasattr(os, "memfd_create"):  # Linux
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
