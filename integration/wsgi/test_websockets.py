"""WebSockets in WSGI threads, with the libraries that people have, behind a real Nginx."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import requests
import socketio
import websockets.exceptions
from websockets.sync.client import ClientConnection, connect

from integration.wsgi.conftest import APPS, REPOSITORY
from uwsgibridge.testing import event_with

if TYPE_CHECKING:
    from uwsgibridge.testing import LocalStack

LIMIT = 3
PATIENCE_SECONDS = 20

Serve = Callable[..., "LocalStack"]


@pytest.fixture(params=["tcp", "unix"])
def start(
    request: pytest.FixtureRequest, local_stack: Callable[..., LocalStack]
) -> Iterator[Callable[..., LocalStack]]:
    """Start a stack of the test's own: it is stopped, or its limit is reached."""
    with contextlib.ExitStack() as stacks:

        def start(*serve_args: str, app: str = "sockets:site") -> LocalStack:
            stack = local_stack(
                f"{APPS}.{app}",
                serve_args=(
                    *("--workers", "0", "--threads", "2", "--wsgi-websockets", str(LIMIT)),
                    *serve_args,
                ),
                app_dir=REPOSITORY,
                socket=request.param,
                environment={"PYTHONWARNINGS": "always"},
            )
            if stack.log.wait_ended(0):
                stack.start()
            stacks.callback(stack.stop)
            return stack

        yield start


@contextlib.contextmanager
def opened(stack: LocalStack, path: str = "/echo/x", **options: Any) -> Iterator[ClientConnection]:
    with connect(stack.url.replace("http", "ws") + path, proxy=None, **options) as peer:
        yield peer


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_closed(peer: ClientConnection, code: int, reason: str = "") -> None:
    with pytest.raises(websockets.exceptions.ConnectionClosed) as raised:
        peer.recv(PATIENCE_SECONDS)
    assert raised.value.rcvd is not None, "the connection ended without a close frame"
    assert (raised.value.rcvd.code, raised.value.rcvd.reason) == (code, reason)


def test_flask_sock_talks_over_a_websocket(start: Serve) -> None:
    stack = start()
    with opened(stack, max_size=None) as peer:
        for message in ("hello", "\u2603", "x" * 200_000, b"\x00\xff"):
            peer.send(message)
            assert peer.recv(PATIENCE_SECONDS) == message
        peer.send("large")
        assert peer.recv(PATIENCE_SECONDS) == "x" * 3_000_000
        assert peer.ping().wait(PATIENCE_SECONDS)
        peer.send("thread")
        assert re.fullmatch(r"wsgi-websocket-\d+", str(peer.recv(PATIENCE_SECONDS)))
        peer.close(4000, "done")
        assert (peer.close_code, peer.close_reason) == (4000, "done")


@pytest.mark.parametrize(
    ("word", "code", "reason"),
    [
        ("close", 4001, "as you wish"),
        ("return", 1000, ""),
        ("raise", 1011, "the application failed"),
    ],
)
def test_the_application_ends_it(start: Serve, word: str, code: int, reason: str) -> None:
    stack = start("--access-log", "--access-log-format", "json")
    with opened(stack) as peer:
        peer.send(word)
        assert_closed(peer, code, reason)
    line = stack.wait_for_event(lambda event: event.get("path") == "/echo/x" and "status" in event)
    assert line["status"] == 101
    # What Flask answers afterwards goes nowhere, and an answer without a WebSocket is as ever.
    assert requests.get(f"{stack.url}/plain", timeout=PATIENCE_SECONDS).text.startswith("plain")


def test_simple_websocket_talks_without_a_framework(start: Serve) -> None:
    stack = start(app="sockets:bare")
    with opened(stack) as peer:
        peer.send("hello")
        assert peer.recv(PATIENCE_SECONDS) == "hello"
        peer.close(4002, "enough")
    stack.wait_for_event(lambda event: "closed 4002 enough" in str(event))


def test_a_client_that_leaves_without_a_word(start: Serve) -> None:
    stack = start(app="sockets:bare")
    with opened(stack) as peer:
        peer.send("hello")
        assert peer.recv(PATIENCE_SECONDS) == "hello"
        peer.socket.close()
    told = stack.wait_for_event(lambda event: "closed 1005" in str(event))  # by wsgi.errors
    errors = [event for event in stack.log_events() if event.get("level") == "error"]
    assert errors == [told]


def test_an_application_may_answer_instead(start: Serve) -> None:
    stack = start()
    for path, status in (("/denied", 401), ("/nowhere", 404)):
        with (
            pytest.raises(websockets.exceptions.InvalidStatus) as raised,
            opened(stack, path),
        ):
            pass
        assert raised.value.response.status_code == status
    assert b"who are you?" not in raised.value.response.body


def test_they_keep_no_request_waiting_and_have_a_limit(start: Serve) -> None:
    stack = start()
    with contextlib.ExitStack() as peers:
        for _ in range(LIMIT):
            peers.enter_context(opened(stack))
        for _ in range(40):  # more than threads and places beside them
            assert requests.get(f"{stack.url}/plain", timeout=PATIENCE_SECONDS).status_code == 200
        with pytest.raises(websockets.exceptions.InvalidStatus) as raised, opened(stack):
            pass
        assert raised.value.response.status_code == 503
        assert raised.value.response.headers["Retry-After"]
        event = stack.wait_for_event(event_with(event="refused", reason="wsgi_websockets"))
        assert "--wsgi-websockets" in str(event["detail"])

    def opens() -> bool:
        try:
            with opened(stack):
                return True
        except websockets.exceptions.InvalidStatus:
            return False

    wait_until(opens)


def test_a_stop_is_told(start: Serve) -> None:
    stack = start()
    with opened(stack) as one, opened(stack) as silent:
        one.send("hello")
        assert one.recv(PATIENCE_SECONDS) == "hello"
        stopping = threading.Thread(target=stack.bridge.stop)
        began = time.monotonic()
        stopping.start()
        try:
            assert_closed(one, 1012, "the server is restarting")
            assert_closed(silent, 1012, "the server is restarting")
        finally:
            stopping.join(PATIENCE_SECONDS)
        assert time.monotonic() - began < 5
    assert "Traceback" not in stack.bridge_log
    assert "broken off" not in stack.bridge_log


def test_flask_socketio_talks_over_a_websocket(start: Serve) -> None:
    stack = start()
    heard: list[str] = []
    with socketio.SimpleClient() as client:
        client.connect(stack.url, transports=["websocket"])
        assert client.transport == "websocket"
        for word in ("one", "two"):
            assert client.call("shout", word, timeout=PATIENCE_SECONDS) == "said"
            event, text = client.receive(timeout=PATIENCE_SECONDS)
            assert event == "shouted"
            heard.append(text)
    assert heard == ["ONE", "TWO"]
    assert "Traceback" not in stack.bridge_log


def test_flask_socketio_begins_with_polling(start: Serve) -> None:
    """As its JavaScript client does, which then changes over."""
    stack = start()
    with socketio.SimpleClient() as client:
        client.connect(stack.url)
        wait_until(lambda: client.transport == "websocket")
        assert client.call("shout", "x", timeout=PATIENCE_SECONDS) == "said"
        assert client.receive(timeout=PATIENCE_SECONDS) == ["shouted", "X"]
