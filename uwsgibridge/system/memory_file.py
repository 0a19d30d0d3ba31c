"""A file without a path, for what one process leaves to another: in memory where the system has that."""

from __future__ import annotations

import os
import tempfile


def make_memory_file(name: str) -> int:
    """Make an empty file that is gone when nobody has it open any more.

    Args:
        name: what /proc shows of it; it need not be the only one.

    Returns:
        A descriptor, which the caller closes; not inherited by programs that are started.
    """
    if hasattr(os, "memfd_create"):  # Linux
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
