"""An answer that a worker has sent as a whole reaches the client, and counts, though the worker is killed at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Final, Literal

import pytest
import requests

from integration.soak.test_exact_figures import figures_at
from integration.workers import PATIENCE_SECONDS
from uwsgibridge.fast import PURE_VARIABLE
from uwsgibridge.testing import LocalStack

APPLICATION: Final = """
import os
import signal

def app(environ, start_response):
    body = b"the whole body, of process %d" % os.getpid()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    yield body
    if environ["PATH_INFO"] == "/killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""

# The bridge's own answer is the last that the worker sends.
FAILING: Final = """
import os
import signal

from uwsgibridge.connection.connection import Connection

send = Connection.send

def send_and_end(connection, data):
    send(connection, data)
    os.kill(os.getpid(), signal.SIGKILL)

def wsgi(environ, start_response):
    Connection.send = send_and_end
    raise RuntimeError("as it is told to")

async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    wsgi(scope, None)
"""

on_each_way = pytest.mark.parametrize("way", ["accelerated", "pure"])


@contextmanager
def serving(
    directory: Path, source: str, name: str, interface: Literal["wsgi", "asgi"], way: str
) -> Iterator[LocalStack]:
    (directory / "killing.py").write_text(source)
    with LocalStack(
        f"killing:{name}",
        app_dir=directory,
        socket="unix",
        interface=interface,
        serve_args=("--workers", "2", "--status-bind", f"unix:{directory}/status"),
        environment={PURE_VARIABLE: "1" if way == "pure" else ""},
    ) as stack:
        yield stack


def wait_for_end(pid: int) -> None:
    """Wait until a worker is gone: what has killed itself may have accepted the next request before."""
    end = monotonic() + PATIENCE_SECONDS
    while Path(f"/proc/{pid}").exists():
        assert monotonic() < end


def wait_for_count(directory: Path, status: str, count: int) -> dict[str, float]:
    end = monotonic() + PATIENCE_SECONDS
    while True:
        figures = figures_at(f"unix:{directory}/status")
        name = f'uwsgibridge_requests_total{{mount="/",method="GET",status="{status}"}}'
        if figures.get(name) == count:
            return figures
        assert monotonic() < end, figures


@pytest.mark.each("way")
@on_each_way
def test_it_arrives_and_counts(tmp_path: Path, way: str) -> None:
    with serving(tmp_path, APPLICATION, "app", "wsgi", way) as stack:
        for path in ("/", "/killed", "/killed", "/"):
            answer = requests.get(f"{stack.url}{path}", timeout=PATIENCE_SECONDS)
            assert (answer.status_code, answer.text[:14]) == (200, "the whole body")
            if path == "/killed":
                wait_for_end(int(answer.text.rpartition(" ")[2]))
        figures = wait_for_count(tmp_path, "2xx", 4)
        assert figures["uwsgibridge_requests_aborted_total"] == 0


@pytest.mark.each("way")
@on_each_way
@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_so_does_the_answer_to_an_application_that_fails(
    tmp_path: Path, interface: Literal["wsgi", "asgi"], way: str
) -> None:
    with serving(tmp_path, FAILING, interface, interface, way) as stack:
        answer = requests.get(stack.url, timeout=PATIENCE_SECONDS)
        assert answer.status_code == 500
        figures = wait_for_count(tmp_path, "5xx", 1)
        assert figures["uwsgibridge_requests_aborted_total"] == 0
