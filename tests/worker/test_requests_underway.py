"""The requests in flight as an operator is told of them: how far each is, what has it, and where it stands."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import anyio
import pytest

from tests import websocket_client
from tests.bridge import Bridge, on_each_loop, running
from tests.gil import looks_at_frames
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import connect, packet
from uwsgibridge.worker.requests_underway import list_requests


class Gate:
    """Holds an application where a test has it wait.

    Attributes:
        arrived: is released once for each request that waits.
    """

    def __init__(self) -> None:
        self.arrived = threading.Semaphore(0)
        self._open = threading.Event()

    def wait(self) -> None:
        self.arrived.release()
        assert self._open.wait(PATIENCE_SECONDS)

    async def wait_on_loop(self) -> None:
        self.arrived.release()
        await anyio.to_thread.run_sync(self._open.wait, PATIENCE_SECONDS)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    it = Gate()
    yield it
    it.open()


def wsgi(gate: Gate) -> Callable[..., Any]:
    class Closing(list[bytes]):
        def close(self) -> None:
            gate.wait()

    def app(environ: Any, start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if path == "/body":
            gate.arrived.release()
            environ["wsgi.input"].read()
        if path.startswith("/wait"):
            gate.wait()
        start_response("200 OK", [])
        if path == "/sends":
            return sends()
        return Closing([b"ok"]) if path == "/after" else [b"ok"]

    def sends() -> Iterator[bytes]:
        yield b"first"
        gate.wait()
        yield b"second"

    return app


def asgi(gate: Gate) -> Callable[..., Any]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await gate.wait_on_loop()
            return
        path = scope["path"].removeprefix("/mounted")
        if path == "/body":
            gate.arrived.release()
            await receive()
        if path.startswith("/wait"):
            await gate.wait_on_loop()
        kind = b"text/event-stream" if path == "/events" else b"text/plain"
        head = [(b"content-type", kind)]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        if path in {"/sends", "/events"}:
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            await gate.wait_on_loop()
        await send({"type": "http.response.body", "body": b"ok"})
        if path == "/after":
            await gate.wait_on_loop()

    return app


@contextmanager
def asked(bridge: Bridge, gate: Gate, *paths: str, **variables: Any) -> Iterator[None]:
    """Have requests in flight, each where its application waits."""
    with ExitStack() as stack:
        for path in paths:
            connection = stack.enter_context(connect(bridge.address))
            connection.sendall(packet(path, **variables))
            if not path.startswith("/queued"):
                assert gate.arrived.acquire(timeout=PATIENCE_SECONDS)
        try:
            yield
        finally:
            gate.open()


def told(bridge: Bridge, **options: Any) -> dict[str, Any]:
    chosen = {"older_seconds": 0.0, "limit": 100, "with_stacks": False, **options}
    return list_requests(bridge.underway(), **chosen)


def wait_for_phase(bridge: Bridge, phase: str) -> dict[str, Any]:
    """Give the only request, once it has come so far."""
    seen = []
    for _ in range(10_000):
        [request] = told(bridge)["requests"]
        if request["phase"] == phase:
            return dict(request)
        seen.append(request["phase"])
        bridge.settle()
    raise AssertionError(f"{phase} never came: {set(seen)}")


PHASES = [
    ("/wait", {}, "application"),
    ("/body", {"method": "POST", "content_length": 4}, "reading body"),
    ("/sends", {}, "sending"),
    ("/after", {}, "after answer"),
]


@pytest.mark.parametrize(("path", "variables", "phase"), PHASES)
def test_phases_of_wsgi(gate: Gate, path: str, variables: dict[str, Any], phase: str) -> None:
    with running(wsgi(gate)) as bridge, asked(bridge, gate, path, **variables):
        request = wait_for_phase(bridge, phase)
        assert request["thread"].startswith("wsgi-")
        assert request["task"] is None


@on_each_loop
@pytest.mark.parametrize(("path", "variables", "phase"), PHASES)
def test_phases_of_asgi(
    gate: Gate, loop: str, path: str, variables: dict[str, Any], phase: str
) -> None:
    with running(asgi(gate), loop=loop) as bridge, asked(bridge, gate, path, **variables):
        request = wait_for_phase(bridge, phase)
        assert request["thread"] is None
        assert request["task"]


def test_what_waits_for_a_thread_is_queued(gate: Gate) -> None:
    with running(wsgi(gate), threads=1) as bridge, asked(bridge, gate, "/wait", "/queued"):
        for _ in range(10_000):
            requests = told(bridge)["requests"]
            if len(requests) == 2:
                break
            bridge.settle()
        assert [(it["path"], it["phase"], it["thread"], it["task"]) for it in requests] == [
            ("/wait", "application", "wsgi-1", None),
            ("/queued", "queued", None, None),
        ]


def test_a_request_that_was_given_up_is_told_until_its_thread_is_back(gate: Gate) -> None:
    with (
        running(wsgi(gate), threads=2, request_timeout_seconds=0.01) as bridge,
        asked(bridge, gate, "/wait"),
    ):
        bridge.events.wait(event="request took too long")
        assert wait_for_phase(bridge, "given up")["thread"].startswith("wsgi-")


@on_each_loop
def test_websockets_and_event_streams_are_meant_to_last(gate: Gate, loop: str) -> None:
    with running(asgi(gate), loop=loop) as bridge:
        with websocket_client.opened(bridge, "/socket"):
            assert gate.arrived.acquire(timeout=PATIENCE_SECONDS)
            [placed] = bridge.underway()
            assert (placed.underway.phase, placed.underway.is_open_ended) == ("websocket", True)
            gate.open()
        bridge.settle()
    with running(asgi(other := Gate()), loop=loop) as bridge, asked(bridge, other, "/events"):
        [placed] = bridge.underway()
        assert (placed.underway.phase, placed.underway.is_open_ended) == ("sending", True)


def test_each_is_told_with_its_application_and_without_its_query(gate: Gate) -> None:
    mounts = {"/mounted": asgi(gate)}
    secret = {"QUERY_STRING": "token=secret", "HTTP_X_REQUEST_ID": "4f2a"}
    with (
        running(wsgi(gate), mounts=mounts) as bridge,
        asked(bridge, gate, "/wait", "/mounted/wait", **secret),
    ):
        answer = told(bridge)
        first, second = answer["requests"]
        assert (first["path"], first["mount"]) == ("/wait", "")
        assert (second["path"], second["mount"]) == ("/mounted/wait", "/mounted")
        assert first["application"] != second["application"]
        assert (first["method"], first["request_id"]) == ("GET", "4f2a")
        assert first["age_seconds"] >= second["age_seconds"] >= 0
        assert "secret" not in str(answer)


def test_the_oldest_are_told_and_the_others_are_counted(gate: Gate) -> None:
    paths = [f"/wait/{number}" for number in range(4)]
    with running(wsgi(gate)) as bridge, asked(bridge, gate, *paths):
        answer = told(bridge, limit=3)
        assert [it["path"] for it in answer["requests"]] == paths[:3]
        assert answer["left_out"] == 1
        assert told(bridge, older_seconds=3_600.0) == {"requests": [], "left_out": 0}


def test_a_long_path_is_cut(gate: Gate) -> None:
    with running(wsgi(gate)) as bridge, asked(bridge, gate, "/wait" + "x" * 20_000):
        [request] = told(bridge)["requests"]
        assert len(request["path"]) < 1_100
        assert request["path"].endswith("x...")


@looks_at_frames
def test_stack_of_a_thread_is_where_its_application_is(gate: Gate) -> None:
    with running(wsgi(gate)) as bridge, asked(bridge, gate, "/wait"):
        [request] = told(bridge, with_stacks=True)["requests"]
        assert "in app\n" in request["stack"]
        assert "uwsgibridge/hosts" not in request["stack"]


@on_each_loop
def test_stack_of_a_task_is_where_its_application_waits(gate: Gate, loop: str) -> None:
    with running(asgi(gate), loop=loop) as bridge, asked(bridge, gate, "/wait"):
        bridge.settle()
        [request] = told(bridge, with_stacks=True)["requests"]
        assert "in app\n" in request["stack"]
        assert "in wait_on_loop\n" in request["stack"]
        assert "uwsgibridge/hosts" not in request["stack"]
        assert "stack" not in told(bridge)["requests"][0]
