"""Requests of a probe are answered in the place of the application; all others, and those of a token that is over, are not."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.bridge import Bridge, on_each_loop, on_each_socket, running
from tests.gil import deletes_at_once
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import connect, packet
from uwsgibridge.worker import probing

TOKEN = "0123456789abcdef" * 2
OTHER = "fedcba9876543210" * 2


def wsgi(environ: Any, start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"the application"]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the application"})


def one_of_several(app: Any, family: str, **options: Any) -> AbstractContextManager[Bridge]:
    """Run a worker as one of several: without the GIL, the threads of a single one accept by themselves, past any probe."""
    return running(app, family, workers=2, **options)


def probed(bridge: Bridge, header: str, **variables: Any) -> Any:
    return bridge.ask("/there", HTTP_UWSGIBRIDGE_PROBE=header, **variables)


def arrived(bridge: Bridge, token: str = TOKEN) -> list[dict[str, Any]]:
    answer = bridge.probe(token)
    assert "error" not in answer, answer
    return list(answer["arrived"])


@on_each_socket
@on_each_loop
def test_a_token_has_its_requests_answered_and_noted(family: str, loop: str) -> None:
    # Of asyncio's loops, the application runs on the loop itself.
    app = wsgi if loop == "trio" else asgi
    with one_of_several(app, family, loop=loop) as bridge:
        assert probed(bridge, f"{TOKEN} 1 short").body == b"the application"
        assert arrived(bridge) == []
        answer = probed(bridge, f"{TOKEN} 1 short", REMOTE_ADDR="192.0.2.1")
        assert (answer.status, answer.body) == (200, b"The probe has arrived.\n")
        (first,) = arrived(bridge)
        assert first["number"] == 1
        assert first["vars"]["PATH_INFO"] == "/there"
        assert first["vars"]["REMOTE_ADDR"] == "192.0.2.1"
        # The token is in no answer.
        assert TOKEN not in str(first)
        # Other clients notice nothing, and a header alone does nothing.
        assert bridge.ask().body == b"the application"
        for header in (f"{OTHER} 1 short", f"{TOKEN} 1 long", f"{TOKEN}", "", f"{TOKEN} 1 short "):
            assert probed(bridge, header).body == b"the application"
        assert len(arrived(bridge)) == 1


@pytest.mark.parametrize("size", [300, 4096, 32_768])
def test_a_head_has_the_size_that_is_asked_for(size: int) -> None:
    with one_of_several(wsgi, "unix") as bridge:
        arrived(bridge)
        with connect(bridge.address) as connection:
            header = f"{TOKEN} 1 head={size}"
            connection.sendall(packet(HTTP_UWSGIBRIDGE_PROBE=header))
            connection.shutdown(socket.SHUT_WR)
            data = connection.makefile("rb").read()
        assert data.index(b"\r\n\r\n") + 4 == size


@on_each_loop
def test_an_answer_in_parts_comes_in_parts(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "PAUSE_SECONDS", 0.3)
    with one_of_several(wsgi, "unix", loop=loop) as bridge:
        arrived(bridge)
        with connect(bridge.address) as connection:
            connection.sendall(packet(HTTP_UWSGIBRIDGE_PROBE=f"{TOKEN} 1 parts"))
            first = connection.recv(65_536)
            began = time.monotonic()
            assert first.endswith(b"The first part.\n")
            assert connection.recv(65_536) == b"The second part.\n"
            assert time.monotonic() - began > 0.1
            assert connection.recv(1) == b""


@deletes_at_once
def test_a_stop_does_not_wait_for_ever_for_the_second_part() -> None:
    with one_of_several(wsgi, "unix", graceful_timeout_seconds=0.0) as bridge:
        arrived(bridge)
        with connect(bridge.address) as connection:
            connection.sendall(packet(HTTP_UWSGIBRIDGE_PROBE=f"{TOKEN} 1 parts"))
            assert connection.recv(65_536).endswith(b"The first part.\n")
            began = time.monotonic()
            bridge.stop()
            assert time.monotonic() - began < PATIENCE_SECONDS / 2


@pytest.mark.each("either_way")
@pytest.mark.parametrize("app", [wsgi, asgi])
def test_a_token_is_forgotten_and_the_accelerator_used_again(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "PROBE_SECONDS", 0.3)
    with one_of_several(app, "unix") as bridge:
        has_intakes = bridge.has_intakes()
        arrived(bridge)
        assert not bridge.has_intakes()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while probed(bridge, f"{TOKEN} 1 short").body != b"the application":
            assert time.monotonic() < deadline
        while bridge.has_intakes() != has_intakes:
            assert time.monotonic() < deadline
        # And once more, from the beginning.
        assert arrived(bridge) == []
        assert probed(bridge, f"{TOKEN} 1 short").body == b"The probe has arrived.\n"


@pytest.mark.each("either_way")
def test_a_token_may_end_while_the_worker_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "PROBE_SECONDS", 0.2)
    may_end, has_begun = threading.Event(), threading.Event()

    def app(environ: Any, start_response: Callable[..., Any]) -> list[bytes]:
        has_begun.set()
        assert may_end.wait(PATIENCE_SECONDS)
        return wsgi(environ, start_response)

    with one_of_several(app, "unix") as bridge, ThreadPoolExecutor() as threads:
        arrived(bridge)
        answer = threads.submit(bridge.ask)
        try:
            assert has_begun.wait(PATIENCE_SECONDS)
            bridge.begin_stop()
            deadline = time.monotonic() + PATIENCE_SECONDS
            while bridge.is_diverted():
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            may_end.set()
        assert answer.result(PATIENCE_SECONDS).body == b"the application"
        bridge.wait_stopped()


@pytest.mark.each("either_way")
def test_who_is_done_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "PROBE_SECONDS", 0.4)
    with one_of_several(wsgi, "unix") as bridge:
        has_intakes = bridge.has_intakes()
        for token in (TOKEN, OTHER):
            assert arrived(bridge, token) == []
        assert bridge.probe(TOKEN, ends=True) == {"arrived": []}
        assert probed(bridge, f"{TOKEN} 1 short").body == b"the application"
        assert probed(bridge, f"{OTHER} 1 short").body == b"The probe has arrived.\n"
        assert not bridge.has_intakes()
        bridge.probe(OTHER, ends=True)
        assert bridge.has_intakes() == has_intakes
        # The end of the first ones is not that of a later one.
        assert arrived(bridge) == []
        deadline = time.monotonic() + 0.2
        while time.monotonic() < deadline:
            assert probed(bridge, f"{TOKEN} 1 short").body == b"The probe has arrived.\n"
        assert bridge.probe("0" * 32, ends=True) == {"arrived": []}


def test_there_are_bounds() -> None:
    with one_of_several(wsgi, "unix") as bridge:
        tokens = [f"{it:032x}" for it in range(probing.MOST_TOKENS)]
        for token in tokens:
            assert arrived(bridge, token) == []
        assert bridge.probe(TOKEN) == {"error": "4 probes run already, which is the most"}
        for number in range(probing.MOST_ARRIVALS + 3):
            assert probed(bridge, f"{tokens[0]} {number} short").status == 200
        assert len(arrived(bridge, tokens[0])) == probing.MOST_ARRIVALS
