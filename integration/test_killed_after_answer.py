"""An answer that a worker has sent as a whole reaches the client, and counts, though the worker is killed at once."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from time import monotonic
from typing import Final

import pytest

from integration.soak.test_exact_figures import figures_at
from integration.workers import PATIENCE_SECONDS
from uwsgibridge.fast import PURE_VARIABLE
from uwsgibridge.testing import LocalStack

BODY: Final = "the whole body"

APPLICATION: Final = f"""
import os
import signal

BODY = {BODY!r}.encode()

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", str(len(BODY)))])
    yield BODY
    if environ["PATH_INFO"] == "/killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.each("way")
@pytest.mark.parametrize("way", ["accelerated", "pure"])
def test_it_arrives_and_counts(tmp_path: Path, way: str) -> None:
    (tmp_path / "killing.py").write_text(APPLICATION)
    status = tmp_path / "status"
    with LocalStack(
        "killing:app",
        app_dir=tmp_path,
        socket="unix",
        interface="wsgi",
        serve_args=("--workers", "2", "--status-bind", f"unix:{status}"),
        environment={PURE_VARIABLE: "1" if way == "pure" else ""},
    ) as stack:
        for path in ("/", "/killed", "/killed", "/"):
            with urllib.request.urlopen(f"{stack.url}{path}", timeout=PATIENCE_SECONDS) as answer:
                assert answer.read().decode() == BODY
        end = monotonic() + PATIENCE_SECONDS
        while True:
            figures = figures_at(f"unix:{status}")
            answered = figures['uwsgibridge_requests_total{mount="/",method="GET",status="2xx"}']
            if answered == 4:
                break
            assert monotonic() < end, figures
        assert figures["uwsgibridge_requests_aborted_total"] == 0
