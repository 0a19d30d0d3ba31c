"""Being another user than root, in this process or in one of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65_534
PATIENCE_SECONDS = 60.0

need_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can")


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Lose the permissions of root for a while; another user than root has none to lose."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def the_user_can_run_python() -> bool:
    """Whether another user may start the Python of the tests, which may lie in a directory of root's."""
    finished = subprocess.run(
        ["/bin/sh", "-c", f"test -x {sys.executable}"], check=False, user=NOBODY
    )
    return finished.returncode == 0


def run_script(script: str, *arguments: str) -> str:
    """Run code in a process of its own, which must end well and say nothing on standard error."""
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, ""), finished
    return finished.stdout


def names_in(directory: Path) -> list[str]:
    """List what is in a directory."""
    return [it.name for it in directory.iterdir()]
