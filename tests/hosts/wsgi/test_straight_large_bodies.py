"""Answers that do not fit the connection: what the accelerator does by itself, and how Python goes on where it does not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any
from unittest.mock import create_autospec

import pytest

from tests.hosts.wsgi.test_straight import HEAD, TEXT, is_accelerated
from tests.hosts.wsgi.test_straight_bodies import answer_of, ask_while_reading
from tests.log_events import PATIENCE_SECONDS
from tests.wsgi_conversation import Conversations
from uwsgibridge.hosts.wsgi.answer import WsgiAnswer

# Only with the accelerator is there such a way.
pytestmark = pytest.mark.each("either_way")

# Below and above what is sent while the interpreter's lock is held, and several of the pieces that each have a time.
SIZES = (250_000, 262_145, 3_000_000)

FORMS: dict[str, Callable[[bytes], Any]] = {
    "list": lambda body: [body],
    "tuple": lambda body: (body,),
    "iterator": lambda body: iter([body]),
}
on_each_form = pytest.mark.parametrize("form", FORMS)


def answering(form: str, size: int, *, is_told: bool = True) -> Any:
    body = bytes(range(250)) * (size // 250 + 1)

    def app(_environ: Any, start_response: Any) -> Any:
        length = [("Content-Length", str(size))] if is_told else []
        start_response("200 OK", [*TEXT, *length])
        return FORMS[form](body[:size])

    return app


def content(size: int) -> bytes:
    return (bytes(range(250)) * (size // 250 + 1))[:size]


@pytest.mark.parametrize("logs_access", [False, True])
@pytest.mark.parametrize("family", ["unix", "tcp"])
@pytest.mark.parametrize("size", SIZES)
@on_each_form
def test_a_large_body_goes_straight(form: str, size: int, family: str, logs_access: bool) -> None:
    host = Conversations(answering(form, size), logs_access=logs_access)
    for _ in range(2):
        host.concluded.clear()
        got = ask_while_reading(host, family=family, send_buffer_bytes=65_536)
        assert got == (answer_of(content(size)), False)
    assert len(host.concluded) == (not is_accelerated())
    assert not host.in_flight
    assert host.accesses == [(200, size, True)] * (2 * logs_access)
    assert host.events.find() == []


@on_each_form
def test_a_large_body_without_a_length_is_left_to_python(form: str) -> None:
    host = Conversations(answering(form, 3_000_000, is_told=False), logs_access=True)
    for _ in range(2):
        received, is_broken = ask_while_reading(host, send_buffer_bytes=4096)
        assert received.startswith(HEAD)
        assert (received.partition(b"\r\n\r\n")[2], is_broken) == (content(3_000_000), False)
    assert host.accesses == [(200, 3_000_000, True)] * 2


@pytest.mark.parametrize("family", ["unix", "tcp"])
@on_each_form
def test_a_client_that_takes_no_more_is_broken_off_in_time(
    form: str, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 30_000_000
    waits = create_autospec(WsgiAnswer._wait, side_effect=WsgiAnswer._wait)
    monkeypatch.setattr(WsgiAnswer, "_wait", waits)
    host = Conversations(answering(form, size), logs_access=True, write_timeout_seconds=0.05)
    held: list[socket.socket] = []
    for count in range(1, 3):
        waits.reset_mock()  # the first request of a host, with a head that is new, is Python's
        host.ask(reads=lambda peer: held.append(peer.dup()), family=family)
        status, body_bytes, is_complete = host.accesses[-1]
        assert (status, is_complete, len(host.accesses)) == (200, False, count)
        assert 0 < body_bytes < size
    # What has waited in C for all of its time does not wait in Python again.
    assert waits.called != is_accelerated()
    for peer in held:
        received = 0
        peer.settimeout(PATIENCE_SECONDS)
        try:
            while piece := peer.recv(1_000_000):
                received += len(piece)
        except ConnectionResetError:
            pass
        assert received < size
        peer.close()


@pytest.mark.parametrize("family", ["unix", "tcp"])
@on_each_form
def test_a_client_that_leaves_meanwhile_is_no_failure(form: str, family: str) -> None:
    size = 30_000_000
    host = Conversations(answering(form, size), logs_access=True)
    threads: list[threading.Thread] = []

    def leave_after_a_part(peer: socket.socket) -> None:
        mine = peer.dup()
        peer.close()

        def read_a_part() -> None:
            with mine:
                mine.settimeout(PATIENCE_SECONDS)
                assert mine.recv(100_000)

        threads.append(threading.Thread(target=read_a_part))
        threads[-1].start()

    for count in range(1, 3):
        host.ask(reads=leave_after_a_part, family=family)
        assert host.counters.app_errors == 0
        assert [(status, done) for status, _, done in host.accesses] == [(200, False)] * count
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert not host.in_flight
