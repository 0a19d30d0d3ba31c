"""Sizes and times over a limit: a clear status for the client, the option's name for the operator."""

from __future__ import annotations

import socket
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from integration.connecting import connect
from uwsgibridge.client import TruncatedAnswerError, request
from uwsgibridge.protocol.packet import encode_packet
from uwsgibridge.testing import Site, event_with

pytestmark = [pytest.mark.every_loop, pytest.mark.only(place="local")]

LIMITS = (
    *("--max-vars", "40", "--max-vars-bytes", "4000", "--max-body-bytes", "300000"),
    *("--packet-timeout-seconds", "0.3", "--body-timeout-seconds", "0.3"),
    *("--write-timeout-seconds", "0.3", "--threads", "2"),
)


@pytest.fixture(scope="session")
def limited(kind, start_stack):
    """A stack of the same kind with limits that are quick to reach."""
    # Nginx's own patience has to be longer than the bridge's.
    return start_stack(kind, serve_args=LIMITS, site=Site(read_timeout_seconds=1))


@pytest.fixture
def stack(limited):
    return limited


def refused(stack, before, **fields):
    return stack.wait_for_event(event_with(event="refused", **fields), since=before)


def test_more_vars_than_allowed_are_refused(stack, exchange):
    before = len(stack.log_events())
    answer = exchange(stack.url, "/arrived", headers=[(f"X-{n}", "x") for n in range(40)])
    assert answer.status == 431
    assert refused(stack, before, status=431)["option"] == "--max-vars"


def test_more_bytes_of_vars_than_allowed_are_refused(stack, exchange):
    before = len(stack.log_events())
    answer = exchange(stack.url, "/arrived", headers=[("X-Large", "x" * 4000)])
    assert answer.status == 431
    assert refused(stack, before, status=431)["option"] == "--max-vars-bytes"


def test_a_larger_body_than_allowed_is_refused(stack, exchange, client):
    before = len(stack.log_events())
    for below in ("", "/unbuffered"):
        answer = client.post(
            f"{stack.url}{below}/count", data=bytes(300_001), headers={"Connection": "close"}
        )
        assert answer.status_code == 413
        assert refused(stack, before, status=413)["option"] == "--max-body-bytes"
    answer = client.post(f"{stack.url}/count", data=bytes(300_000))
    assert answer.json()["bytes"] == 300_000


def test_a_packet_that_does_not_arrive(stack):
    for start in (b"\0", encode_packet({"PATH_INFO": "/arrived"})[:-1]):
        before = len(stack.log_events())
        with closing(connect(stack.address)) as connection:
            connection.sendall(start)
            assert connection.recv(100) == b""
        event = stack.wait_for_event(event_with(option="--packet-timeout-seconds"), since=before)
        assert event["level"] == "warning"


def test_a_packet_that_trickles_has_one_deadline_as_a_whole(stack):
    packet = encode_packet({"PATH_INFO": "/arrived", "HTTP_X": "x" * 1000})
    before = len(stack.log_events())
    with closing(connect(stack.address)) as connection:
        for at in range(len(packet) - 1):
            connection.sendall(packet[at : at + 1])
        stack.wait_for_event(event_with(option="--packet-timeout-seconds"), since=before)


def test_a_body_that_stops_before_the_answer_began(stack, token):
    """The client has sent half of it, and waits."""
    before = len(stack.log_events())
    with open_upload(stack, f"/unbuffered/count/{token}", 1000) as connection:
        connection.sendall(bytes(500))
        answer = connection.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 408 ")
    event = stack.wait_for_event(event_with(option="--body-timeout-seconds"), since=before)
    assert event["outcome"] == "answered 408"


def test_a_body_that_stops_after_the_answer_began(stack, token):
    before = len(stack.log_events())
    with open_upload(stack, f"/unbuffered/answer-first/{token}", 1000) as connection:
        connection.sendall(bytes(500))
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
        assert b"first\n" in answer
        # The last chunk of a whole answer is of size 0.
        assert not answer.endswith(b"0\r\n\r\n")
    event = stack.wait_for_event(event_with(option="--body-timeout-seconds"), since=before)
    assert event["outcome"] == "connection broken"


def test_a_client_that_does_not_read(stack, token):
    before = len(stack.log_events())
    with closing(connect(stack.address)) as connection:
        connection.sendall(
            encode_packet({"PATH_INFO": f"/endless/{token}", "REQUEST_METHOD": "GET"})
        )
        event = stack.wait_for_event(event_with(option="--write-timeout-seconds"), since=before)
        assert event["outcome"] == "connection broken"
        stack.wait_for_event(event_with(event="app: endless ended", path=f"/endless/{token}"))
        with pytest.raises(ConnectionResetError):
            b"".join(iter(lambda: connection.recv(1_000_000), b""))


def test_it_serves_on(stack):
    """Last in this file: every thread has come back."""
    for _ in range(8):
        assert request(stack.address, "/arrived", timeout_seconds=10).status == 200
    with pytest.raises(TruncatedAnswerError):
        request(stack.address, "/body?bytes=10&fail=1", timeout_seconds=10)


def open_upload(stack, target, length):
    where = urlsplit(stack.url)
    connection = socket.create_connection((where.hostname, where.port), timeout=20)
    connection.sendall(
        f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()
    )
    return connection
