"""The real uWSGI behind an Nginx, to compare with; skipped where it is not installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from integration.wsgi.conftest import APPS, REPOSITORY
from integration.wsgi.fetching import PATIENCE_SECONDS
from uwsgibridge.frontend.private import PrivateNginx
from uwsgibridge.testing import Site

# As in the environment in which the tests run.
UWSGI = shutil.which("uwsgi", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")

needs_uwsgi = pytest.mark.skipif(UWSGI is None, reason="uWSGI is not installed")


@contextlib.contextmanager
def real_uwsgi(directory: Path, app: str, *options: str) -> Iterator[tuple[str, Callable[[], str]]]:
    """Serve an application of this directory by uWSGI; its URL, and what reads its log.

    Args:
        directory: for its socket and its log.
        app: such as ``behind_files:wsgi``.
        options: of uWSGI.
    """
    assert UWSGI is not None
    address, log = f"{directory}/uwsgi.sock", directory / "uwsgi.log"
    with (
        log.open("wb") as out,
        subprocess.Popen(
            (
                *(UWSGI, "--socket", address, "--chmod-socket=666", "--master", "--die-on-term"),
                *("--module", f"{APPS}.{app}", "--need-app", "--pythonpath", str(REPOSITORY)),
                *options,
            ),
            stdout=out,
            stderr=out,
            cwd=REPOSITORY,
        ) as process,
    ):
        try:
            with PrivateNginx(Site(upstreams=(f"unix:{address}",))) as nginx:
                wait_until(lambda: "spawned uWSGI worker 1" in log.read_text())
                yield nginx.url, log.read_text
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that has to become true."""
    deadline = monotonic() + PATIENCE_SECONDS
    while not condition():
        assert monotonic() < deadline
        sleep(0.01)
