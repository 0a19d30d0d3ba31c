"""Slow requests are told of while they still run: each once, with where it stands."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests import websocket_client
from tests.bridge import on_each_loop, running
from tests.gil import looks_at_frames
from tests.log_events import PATIENCE_SECONDS
from tests.worker.test_requests_underway import Gate, asgi, asked, gate, wsgi

__all__ = ["gate"]  # a fixture

EVENT = "request is slow, and still runs"
SLOW_SECONDS = 0.02


def test_a_slow_thread_is_told_of_once_while_it_runs(gate: Gate) -> None:
    with running(wsgi(gate), slow_request_seconds=SLOW_SECONDS) as bridge:
        with asked(bridge, gate, "/wait/1", QUERY_STRING="secret"):
            event = bridge.events.wait(event=EVENT)
            assert (event["method"], event["path"]) == ("GET", "/wait/1")
            assert (event["phase"], event["level"]) == ("application", "warning")
            assert event["option"] == "--slow-request-seconds"
            assert event["seconds"] >= SLOW_SECONDS
            assert event["thread"].startswith("wsgi-")
            assert "secret" not in str(event)
            look_again(bridge.settle)
        assert bridge.figures().slow_requests == 1


@looks_at_frames
def test_its_stack_says_where_the_application_is(gate: Gate) -> None:
    with (
        running(wsgi(gate), slow_request_seconds=SLOW_SECONDS) as bridge,
        asked(bridge, gate, "/wait"),
    ):
        assert "in wait\n" in bridge.events.wait(event=EVENT)["stack"]


@on_each_loop
def test_a_slow_task_is_told_of_with_where_it_waits(gate: Gate, loop: str) -> None:
    with running(asgi(gate), loop=loop, slow_request_seconds=SLOW_SECONDS) as bridge:
        with asked(bridge, gate, "/wait/1", "/wait/2"):
            events = bridge.events.wait_many(2, event=EVENT)
            assert {it["path"] for it in events} == {"/wait/1", "/wait/2"}
            assert {it["thread"] for it in events} == {"event loop"}
            assert all("in wait_on_loop\n" in it["stack"] for it in events)
        assert bridge.figures().slow_requests == 2


@looks_at_frames
@on_each_loop
def test_a_request_that_blocks_the_loop_is_told_of_meanwhile(loop: str) -> None:
    released = threading.Event()

    async def blocks(scope: Any, receive: Any, send: Any) -> None:
        assert released.wait(PATIENCE_SECONDS)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    with running(blocks, loop=loop, slow_request_seconds=SLOW_SECONDS, lifespan="off") as bridge:
        asking = threading.Thread(target=bridge.ask, args=("/blocks",))
        asking.start()
        try:
            event = bridge.events.wait(event=EVENT)
        finally:
            released.set()
            asking.join(PATIENCE_SECONDS)
        assert event["path"] == "/blocks"
        assert "in blocks\n" in event["stack"]
        assert bridge.figures().slow_requests == 1


@pytest.mark.parametrize("path", ["/events", "/after", "/socket"])
def test_what_is_meant_to_last_or_keeps_nobody_waiting_is_not_slow(gate: Gate, path: str) -> None:
    with running(asgi(gate), slow_request_seconds=SLOW_SECONDS) as bridge:
        if path == "/socket":
            with websocket_client.opened(bridge, path):
                assert gate.arrived.acquire(timeout=PATIENCE_SECONDS)
                look_again(bridge.settle)
                gate.open()
        else:
            with asked(bridge, gate, path):
                look_again(bridge.settle)
        assert bridge.figures().slow_requests == 0


def look_again(settle: Callable[[], None]) -> None:
    """Let the time pass in which a slow request would be told of: nothing else shows that it is not."""
    time.sleep(4 * SLOW_SECONDS)
    settle()


def test_what_waits_for_a_thread_does_not_run(gate: Gate) -> None:
    with (
        running(wsgi(gate), threads=1, slow_request_seconds=SLOW_SECONDS) as bridge,
        asked(bridge, gate, "/wait", "/queued"),
    ):
        assert bridge.events.wait(event=EVENT)["path"] == "/wait"
        look_again(bridge.settle)
        assert bridge.figures().slow_requests == 1


def test_without_the_option_nobody_looks(gate: Gate) -> None:
    with running(asgi(gate)) as bridge, asked(bridge, gate, "/wait"):
        assert "slow-requests" not in {it.name for it in threading.enumerate()}
        assert bridge.figures().slow_requests == 0
