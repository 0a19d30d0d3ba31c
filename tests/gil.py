"""What does not hold where Python runs without the GIL, as docs/processes.md has it under "Free-threaded Python"."""

from __future__ import annotations

import sys

import pytest

from uwsgibridge.system.interpreter import runs_without_gil

# Of threads that are interrupted, and of stacks.
looks_at_frames = pytest.mark.skipif(
    runs_without_gil(), reason="without the GIL, nobody can look at the frames of another thread"
)

# An object that another thread has dropped lives until the thread that has made it runs Python code again.
deletes_at_once = pytest.mark.skipif(
    runs_without_gil(), reason="without the GIL, what another thread drops is deleted later"
)

# How threads accept where one of them does at a time; without the GIL, they do beside each other.
lends_the_socket = pytest.mark.skipif(
    runs_without_gil(), reason="without the GIL, threads accept beside each other"
)

# FastAPI needs it.
has_pydantic = pytest.mark.skipif(
    runs_without_gil() and sys.version_info < (3, 14),
    reason="pydantic has no build for Python 3.13 without the GIL",
)
