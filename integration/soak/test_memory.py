"""A million requests leave nothing behind in a worker; figures are printed (`pytest -s`)."""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path
from time import monotonic
from typing import Final, Literal
from urllib.parse import urlsplit

import pytest

from benchmarks import load
from integration.asgi.resident_memory import resident_bytes
from integration.soak.wrk import wrk_or_skip
from integration.workers import PATIENCE_SECONDS
from uwsgibridge.control.client import ask
from uwsgibridge.testing import LocalStack

REQUESTS: Final = 1_000_000
WARM_UP_SECONDS: Final = 5
TURN_SECONDS: Final = 10
MOST_TURNS: Final = 60

# What a worker may grow by: its log has a buffer, and malloc keeps pieces. A byte that each request left would be as much.
MOST_GROWTH_BYTES: Final = 1 << 20

APPLICATION: Final = """
import gc
import sys

def count():
    gc.collect()
    return b"%d" % (sys.gettotalrefcount() if hasattr(sys, "gettotalrefcount") else sys.getallocatedblocks())

def wsgi(environ, start_response):
    body = count() if environ["PATH_INFO"] == "/blocks" else b"Hello, world"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]

async def asgi(scope, receive, send):
    body = count() if scope["path"] == "/blocks" else b"Hello, world"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""

# Blocks that come and go by themselves: caches of the interpreter, lines of the log, what the loop has under way.
MOST_BLOCKS: Final = 5_000

HOW: Final[dict[str, tuple[Literal["wsgi", "asgi"], str, str]]] = {
    "threads": ("wsgi", "--threads", "8"),
    "one_thread": ("wsgi", "--threads", "1"),
    "uvloop": ("asgi", "--loop", "uvloop"),
    "trio": ("asgi", "--loop", "trio"),
}


@pytest.mark.soak
@pytest.mark.each("how")
@pytest.mark.parametrize("how", HOW)
def test_a_million_requests_leave_nothing_behind(tmp_path: Path, how: str) -> None:
    interface, *options = HOW[how]
    wrk = wrk_or_skip()
    (tmp_path / "plain.py").write_text(APPLICATION)
    control = tmp_path / "control"
    with LocalStack(
        f"plain:{interface}",
        app_dir=tmp_path,
        interface=interface,
        serve_args=(
            *("--workers", "1", "--lifespan", "off", "--control-socket", str(control)),
            *("--access-log-file", "/dev/null", "--access-log-format", "json", *options),
        ),
    ) as stack:
        [worker] = ask(control, "status")["workers"]
        pid = worker["pid"]
        drive(wrk, stack.url, WARM_UP_SECONDS)
        blocks, resident = blocks_of(stack), resident_bytes(pid)
        begun_at, asked = monotonic(), 0
        for _ in range(MOST_TURNS):
            if asked >= REQUESTS:
                break
            asked += drive(wrk, stack.url, TURN_SECONDS)
        more_blocks, grown = blocks_of(stack) - blocks, resident_bytes(pid) - resident
        sys.stdout.write(
            f"\n{asked} requests in {monotonic() - begun_at:.0f} s: {more_blocks:+} blocks, {grown >> 10:+} KiB\n"
        )
        assert ask(control, "status")["workers"][0]["pid"] == pid
    assert asked >= REQUESTS
    assert more_blocks < MOST_BLOCKS
    assert grown < MOST_GROWTH_BYTES


def drive(wrk: str, url: str, seconds: int) -> int:
    """Ask for some seconds; give how many answers came, which are all good ones."""
    where = urlsplit(url)
    assert where.port
    report = load.drive(
        wrk, load.Request(), port=where.port, host=where.netloc, connections=32, seconds=seconds
    )
    assert not report.errors
    return report.requests


def blocks_of(stack: LocalStack) -> int:
    """Give how many blocks of memory the worker's interpreter has."""
    with urllib.request.urlopen(f"{stack.url}/blocks", timeout=PATIENCE_SECONDS) as answer:
        return int(answer.read())
