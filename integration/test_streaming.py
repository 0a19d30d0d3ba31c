"""Bytes that arrive while others are still to come, both ways, and clients that leave half-way."""

from __future__ import annotations

import hashlib
import socket
from urllib.parse import urlsplit

import pytest

from uwsgibridge.testing import event_with

pytestmark = pytest.mark.every_loop


def open_request(stack, head):
    """Send the head of a request; give the connection, and its answer as a file."""
    where = urlsplit(stack.url)
    connection = socket.create_connection((where.hostname, where.port), timeout=20)
    connection.sendall(head.encode() + b"\r\nHost: localhost\r\n\r\n")
    return connection


def read_until(connection, mark):
    seen = b""
    while mark not in seen:
        piece = connection.recv(65_536)
        assert piece, f"the answer ended without {mark!r}: {seen!r}"
        seen += piece
    return seen


def test_events_arrive_while_the_stream_is_open(stack, client, token):
    with client.get(f"{stack.url}/events?channel={token}", stream=True, timeout=20) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        lines = stream.iter_lines(chunk_size=1)
        assert next(line for line in lines if line) == b"data: open"
        # Each is asked for only when the one before it has been seen here.
        for number in range(3):
            client.post(f"{stack.url}/emit?channel={token}&text={number}").raise_for_status()
            assert next(line for line in lines if line) == f"data: {number}".encode()
        client.post(f"{stack.url}/emit?channel={token}&text=end").raise_for_status()
        assert list(filter(None, lines)) == []


def test_an_answer_begins_before_the_upload_ends(stack):
    """A small one: from then on Nginx sends what can be sent at once, and never waits to send more."""
    with open_request(
        stack, "POST /unbuffered/answer-first HTTP/1.1\r\nContent-Length: 2000"
    ) as connection:
        connection.sendall(bytes(1000))
        read_until(connection, b"first\n")
        connection.sendall(bytes(1000))
        read_until(connection, b"2000\n")


def test_an_upload_arrives_whole(stack, client):
    body = bytes(range(256)) * 20_000
    for below in ("", "/unbuffered"):
        found = client.post(f"{stack.url}{below}/count?digest=1", data=body).json()
        assert found == {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}


@pytest.mark.parametrize("size", [10, 3_000_000])
@pytest.mark.parametrize("below", ["", "/unbuffered"])
def test_an_unread_upload_does_not_cost_the_answer(stack, client, below, size):
    for _ in range(5):
        answer = client.post(
            f"{stack.url}{below}/unread?bytes={size}",
            data=bytes(5_000_000),
            # Nginx closes it, with a rest of the body on its way, whatever the client would like.
            headers={"Connection": "close"},
            timeout=20,
        )
        assert (answer.status_code, len(answer.content)) == (200, size)


def test_a_client_that_leaves_is_noticed_and_no_error(stack, client, token):
    path = f"/endless/{token}"
    before = len(stack.bridge_log)
    with client.get(stack.url + path, stream=True, timeout=20) as stream:
        assert stream.raw.read(1_000_000)
    stack.wait_for_event(event_with(event="app: endless ended", path=path))
    assert client.get(f"{stack.url}/arrived").status_code == 200
    assert "Traceback" not in stack.bridge_log[before:]
    assert not [
        event
        for event in stack.log_events()
        if event.get("path") == path and event.get("level") in {"warning", "error"}
    ]


@pytest.mark.only(interface="asgi")
def test_an_asgi_application_is_told_that_its_client_left(stack, token):
    path = f"/await-disconnect/{token}"
    before = len(stack.bridge_log)
    with open_request(stack, f"GET {path} HTTP/1.1"):
        stack.wait_for_event(event_with(event="app: waiting", path=path))
    stack.wait_for_event(event_with(event="app: disconnected", path=path))
    assert "Traceback" not in stack.bridge_log[before:]


def test_a_client_that_leaves_in_its_upload_is_no_error(stack, client, token):
    before = len(stack.bridge_log)
    with open_request(
        stack, "POST /unbuffered/answer-first HTTP/1.1\r\nContent-Length: 200000"
    ) as connection:
        connection.sendall(bytes(1000))
        read_until(connection, b"first\n")
    # Threads that waited for it for ever would be missing here.
    for _ in range(8):
        assert client.get(f"{stack.url}/arrived/{token}", timeout=20).status_code == 200
    log = stack.bridge_log[before:]
    # A defect of the application's that shows only then is one line, and no failure.
    assert '"application failed"' not in log
