"""What the threads of a WSGI application are for Python, and what the threads are that it starts."""

from __future__ import annotations

import queue
import socket
import threading
from typing import Any

import pytest

from tests.bridge import running
from tests.log_events import PATIENCE_SECONDS
from tests.websocket_client import opened
from uwsgibridge.hosts.wsgi.thread import ApplicationThread

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def kinds_of_threads() -> dict[str, bool]:
    """Tell of threads that are made here which are daemons."""
    return {
        "thread": threading.Thread().daemon,
        "timer": threading.Timer(0, print).daemon,
        "daemon": threading.Thread(daemon=True).daemon,
        "this one, seen by another": seen_by_another(threading.current_thread()),
    }


def seen_by_another(thread: threading.Thread) -> bool:
    seen: list[bool] = []
    other = threading.Thread(target=lambda: seen.append(thread.daemon))
    other.start()
    other.join(PATIENCE_SECONDS)
    return seen[0]


AS_OF_THE_MAIN_THREAD = {
    "thread": False,
    "timer": False,
    "daemon": True,
    "this one, seen by another": True,
}


def test_thread_that_a_request_makes_is_a_daemon_where_it_says_so_alone():
    seen: queue.SimpleQueue[dict[str, bool]] = queue.SimpleQueue()

    def app(environ, start_response):
        seen.put(kinds_of_threads())
        start_response("200 OK", [("Content-Type", "text/plain")])
        seen.put(kinds_of_threads())
        yield b"x"

    with running(app) as bridge:
        assert bridge.ask().status == 200

    assert [seen.get(timeout=PATIENCE_SECONDS) for _ in range(2)] == [AS_OF_THE_MAIN_THREAD] * 2


def test_thread_that_a_websocket_makes_is_one_where_it_says_so_alone():
    seen: queue.SimpleQueue[dict[str, bool]] = queue.SimpleQueue()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        own: socket.socket = environ["werkzeug.socket"]
        seen.put(kinds_of_threads())
        own.sendall(HEAD)
        own.close()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return []

    with running(app, loop="trio", wsgi_websockets=1) as bridge, opened(bridge):
        assert seen.get(timeout=PATIENCE_SECONDS) == AS_OF_THE_MAIN_THREAD


def test_what_it_is_can_not_be_changed():
    """As with each thread that runs."""
    seen: list[BaseException] = []

    def change() -> None:
        try:
            threading.current_thread().daemon = False
        except RuntimeError as error:
            seen.append(error)

    thread = ApplicationThread(target=change, args=(), name="one")
    thread.start()
    thread.join(PATIENCE_SECONDS)
    assert "active thread" in str(seen[0])
    with pytest.raises(RuntimeError, match="active thread"):
        thread.daemon = False
