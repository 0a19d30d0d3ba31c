"""A process that can have no thread any more (ulimit -u, a container's pids_limit): it stops all the same."""

from __future__ import annotations

import urllib.request

import pytest

from integration.workers import EVERY_INTERFACE
from uwsgibridge.testing import LocalStack, event_with

# No thread from the first request on, which has one of its loop's own where that has some.
APPLICATION = """
import asyncio, sys, threading
def none(*_, **__): raise RuntimeError("can't start new thread")
def exhaust():
    for name in ("_start_new_thread", "_start_joinable_thread"):
        if hasattr(threading, name):
            setattr(threading, name, none)

def wsgi(environ, start_response):
    exhaust()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"alive"]

async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    if sys.argv[sys.argv.index("--loop") + 1] != "trio":
        await asyncio.to_thread(len, "")
    exhaust()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"alive"})
"""


@pytest.mark.each("loop")  # trio closes no executor at its end
@EVERY_INTERFACE
@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
@pytest.mark.parametrize("count", ["0", "1"])
def test_it_stops_without_a_traceback(tmp_path, interface, loop, count):
    (tmp_path / "exhausted.py").write_text(APPLICATION)
    with LocalStack(
        f"exhausted:{interface}",
        app_dir=tmp_path,
        socket="unix",
        interface=interface,
        loop=loop,
        serve_args=("--workers", count, "--lifespan", "off"),
    ) as stack:
        for _ in range(2):
            with urllib.request.urlopen(stack.url, timeout=20) as answer:
                assert answer.read() == b"alive"
        assert stack.stop() == 0
        assert "Traceback" not in stack.bridge_log
        assert "new thread" not in stack.bridge_log


@pytest.mark.parametrize("count", ["0", "1"])
def test_its_end_waits_for_no_thread_without_an_end(tmp_path, count):
    (tmp_path / "exhausted.py").write_text(
        APPLICATION + "threading.Thread(target=threading.Event().wait, name='for ever').start()\n"
    )
    with LocalStack(
        "exhausted:wsgi",
        app_dir=tmp_path,
        socket="unix",
        serve_args=("--workers", count),
        graceful_timeout_seconds=1.0,
    ) as stack:
        with urllib.request.urlopen(stack.url, timeout=20) as answer:
            assert answer.read() == b"alive"
        since = len(stack.log_events())
        assert stack.stop() == 0
        event = stack.wait_for_event(
            event_with(event="exiting without waiting for the application's threads"), since=since
        )
        assert "for ever" in str(event["threads"])
        assert "Traceback" not in stack.bridge_log
