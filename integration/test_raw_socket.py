"""What Nginx can't be made to send, or does not show: packets spoken straight to the bridge's address."""

from __future__ import annotations

import contextlib
import json
import selectors
import struct
import time
from contextlib import closing

import pytest

from integration.connecting import connect
from uwsgibridge.client import ping, request
from uwsgibridge.protocol.packet import encode_packet
from uwsgibridge.testing import event_with

pytestmark = [pytest.mark.every_loop, pytest.mark.only(place="local")]

PONG = b"d\0\0\1"


def read_all(connection):
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def read_to_the_end(connection):
    """Read until the end, or until the connection is reset since nobody wanted what was sent."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65_536):
            answer += piece
    return answer


def speak(stack, *pieces):
    """Send pieces one by one; give all that is answered."""
    with closing(connect(stack.address)) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return read_all(connection)


def wait_until_answered(connections, count, timeout_seconds=20):
    """Read from connections until that many have begun to answer: which ones, the bridge chooses."""
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ, connection)
        deadline = time.monotonic() + timeout_seconds
        while count > 0:
            ready = selector.select(deadline - time.monotonic())
            assert ready, f"{count} more should have answered"
            for key, _ in ready:
                assert key.data.recv(65_536)
                selector.unregister(key.fileobj)
                count -= 1


def vars_for(path, **more):
    return {"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": "", **more}


def raw_packet(payload, *, modifier1=0, size=None):
    return struct.pack("<BHB", modifier1, len(payload) if size is None else size, 0) + payload


def raw_var(key, value, *, key_size=None, value_size=None):
    return (
        struct.pack("<H", len(key) if key_size is None else key_size)
        + key
        + struct.pack("<H", len(value) if value_size is None else value_size)
        + value
    )


def headers_named(stack, pairs, name):
    answer = speak(stack, encode_packet([*vars_for("/arrived").items(), *pairs]))
    found = json.loads(answer.partition(b"\r\n\r\n")[2])
    return [value for key, value in found["headers"] if key == name]


# --- The packet -----------------------------------------------------------------------------------


def test_a_packet_is_answered_with_http_and_nothing_of_nginxs(stack):
    answer = speak(stack, encode_packet(vars_for("/unread", QUERY_STRING="bytes=3")))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b"\0\1\2"
    names = {line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]}
    assert not names & {b"date", b"server", b"status", b"transfer-encoding", b"connection"}


def test_head_and_first_bytes_come_at_once(stack):
    with closing(connect(stack.address)) as connection:
        connection.sendall(encode_packet(vars_for("/unread", QUERY_STRING="bytes=1000")))
        first = connection.recv(65_536)
    assert first.partition(b"\r\n\r\n")[2]


def test_modifier_30_cuts_the_script_name(stack):
    answer = request(stack.address, "/app/arrived", vars={"SCRIPT_NAME": "/app"}, modifier1=30)
    assert answer.status == 200
    assert b'"root_path": "/app"' in answer.body
    # Not at a path boundary, so there is nothing to cut.
    answer = request(stack.address, "/apparrived", vars={"SCRIPT_NAME": "/app"}, modifier1=30)
    assert answer.status == 404
    assert b"'apparrived'" in answer.body


def test_a_packet_may_come_byte_by_byte(stack):
    packet = encode_packet(vars_for("/unread", QUERY_STRING="bytes=3"))
    answer = speak(stack, *(packet[at : at + 1] for at in range(len(packet))))
    assert answer.endswith(b"\0\1\2")


def test_a_body_may_come_later_and_in_pieces(stack):
    packet = encode_packet(vars_for("/count", CONTENT_LENGTH="3000"))
    answer = speak(stack, packet, b"x" * 1000, b"x" * 1500, b"x" * 500)
    assert b'"bytes": 3000' in answer
    whole = encode_packet(vars_for("/count", CONTENT_LENGTH="3000")) + b"x" * 3000
    assert b'"bytes": 3000' in speak(stack, whole)


def test_the_largest_packet_of_the_format_is_served(stack):
    variables = vars_for("/arrived")
    rest = 65_535 - len(encode_packet({**variables, "HTTP_X": ""})) + 4
    packet = encode_packet({**variables, "HTTP_X": "x" * rest})
    assert len(packet) == 4 + 65_535
    assert speak(stack, packet).startswith(b"HTTP/1.1 200 ")


def test_a_ping_is_answered(stack):
    assert speak(stack, b"d\0\0\0") == PONG


def test_a_ping_is_answered_while_every_thread_is_busy(stack):
    """The stack has four threads; an application on an event loop is busy in no such way."""
    busy = [connect(stack.address) for _ in range(8)]
    try:
        packet = encode_packet(vars_for("/answer-first", CONTENT_LENGTH="10"))
        for connection in busy:
            connection.sendall(packet)
        wait_until_answered(busy, 4)
        assert ping(stack.address, timeout_seconds=5) < 5
        assert speak(stack, b"d\0\0\0") == PONG
        for connection in busy:
            connection.sendall(b"0123456789")
        for connection in busy:
            assert read_all(connection).endswith(b"10\n")
    finally:
        for connection in busy:
            connection.close()


@pytest.mark.parametrize("modifier1", [1, 5, 17, 22, 31, 97, 98, 99, 101, 110, 111, 173, 250, 255])
def test_a_command_is_refused_and_never_carried_out(stack, modifier1):
    before = len(stack.log_events())
    variables = {"UWSGI_FILE": "/tmp/intruder.py", "PATH_INFO": "/arrived"}
    code = b"import os; os._exit(1)"
    with closing(connect(stack.address)) as connection:
        connection.sendall(encode_packet(variables, modifier1=modifier1) + code)
        assert not read_to_the_end(connection)
    event = stack.wait_for_event(
        event_with(event="refused", reason="unsupported_modifier"), since=before
    )
    assert f"modifier1 {modifier1} " in str(event["detail"])
    assert request(stack.address, "/arrived").status == 200


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (raw_packet(raw_var(b"A", b"1", value_size=9)), b"size"),
        (raw_packet(raw_var(b"A", b"1", key_size=65_535)), b"size"),
        (raw_packet(raw_var(b"A", b"1") + b"\1"), b"size"),
        (raw_packet(raw_var(b"", b"1")), b"empty"),
        (encode_packet(vars_for("/", CONTENT_LENGTH="abc")), b"decimal"),
        (encode_packet(vars_for("/", CONTENT_LENGTH="-1")), b"decimal"),
        (encode_packet(vars_for("/", CONTENT_LENGTH="+1")), b"decimal"),
        (encode_packet(vars_for("/", CONTENT_LENGTH="1 ")), b"decimal"),
        (encode_packet(vars_for("/", CONTENT_LENGTH="1_0")), b"decimal"),
        (encode_packet(vars_for("/", CONTENT_LENGTH="\xb2")), b"decimal"),
        (encode_packet(vars_for("/", CONTENT_LENGTH="9" * 5000)), b"decimal"),
    ],
    ids=[
        "value-past-the-end", "key-past-the-end", "half-a-size", "empty-key", "letters", "negative",
        "signed", "blank", "underscore", "superscript", "endless",
    ],
)  # fmt: skip
def test_a_malformed_packet_is_a_bad_request_in_words(stack, packet, words):
    before = len(stack.log_events())
    answer = speak(stack, packet)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert words in answer.partition(b"\r\n\r\n")[2]
    stack.wait_for_event(event_with(event="refused", status=400), since=before)


def test_no_vars_at_all_are_no_error(stack):
    assert speak(stack, raw_packet(b"")).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    "text",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
        b"OPTIONS * HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_http_is_told_in_words_what_is_wrong(stack, text):
    before = len(stack.log_events())
    answer = speak(stack, text)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"uwsgi_pass" in answer
    stack.wait_for_event(event_with(event="refused", reason="http_not_uwsgi"), since=before)


def test_tls_is_refused(stack):
    before = len(stack.log_events())
    hello = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(100)
    with closing(connect(stack.address)) as connection:
        connection.sendall(hello)
        assert not read_to_the_end(connection)
    stack.wait_for_event(event_with(event="refused", reason="tls_not_uwsgi"), since=before)


@pytest.mark.parametrize("declared", ["", "0", "whole"])
def test_a_second_packet_is_never_a_request(stack, token, declared):
    second = encode_packet(vars_for(f"/arrived/{token}"))
    length = str(len(second)) if declared == "whole" else declared
    first = encode_packet(vars_for("/unread", QUERY_STRING="bytes=5", CONTENT_LENGTH=length))
    with closing(connect(stack.address)) as connection:
        connection.sendall(first + second)
        answer = read_to_the_end(connection)
    assert answer.count(b"HTTP/1.1") == 1
    assert answer.endswith(b"\0\1\2\3\4")
    assert request(stack.address, f"/arrived/seen-{token}").status == 200
    served = request(stack.address, "/served").body.decode()
    assert f"seen-{token}" in served
    assert f"/arrived/{token}" not in served


def test_one_connection_carries_one_request(stack):
    packet = encode_packet(vars_for("/unread", QUERY_STRING="bytes=3"))
    with closing(connect(stack.address)) as connection:
        connection.sendall(packet)
        first = read_all(connection)
        assert first.endswith(b"\0\1\2")
        try:
            connection.sendall(packet)
            assert connection.recv(100) == b""
        except (BrokenPipeError, ConnectionResetError):
            pass  # closed on both sides


def test_vars_of_uwsgi_act_on_nothing(stack, tmp_path):
    marker = tmp_path / "loaded"
    intruder = tmp_path / "intruder.py"
    intruder.write_text(f"open({str(marker)!r}, 'w').close()\n")
    before = request(stack.address, "/surroundings").body
    for name, value in {
        "UWSGI_FILE": str(intruder),
        "UWSGI_SCRIPT": "intruder",
        "UWSGI_MODULE": "intruder",
        "UWSGI_CALLABLE": "intruder",
        "UWSGI_HOME": str(tmp_path),
        "UWSGI_CHDIR": str(tmp_path),
        "UWSGI_SETENV": "INTRUDER=1",
        "UWSGI_TOUCH_RELOAD": str(intruder),
        "UWSGI_POSTFILE": str(tmp_path / "posted"),
        "UWSGI_CACHE_GET": "intruder",
        "UWSGI_APPID": "/intruder",
    }.items():
        for form in (value, f"exec://touch {marker}", f"file://{intruder}"):
            answer = request(
                stack.address,
                "/count",
                method="POST",
                body=b"abc",
                vars={name: form, "SCRIPT_FILENAME": str(intruder)},
            )
            assert answer.status == 200
            assert b'"bytes": 3' in answer.body
    assert request(stack.address, "/surroundings").body == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["intruder.py"]


# --- The vars -------------------------------------------------------------------------------------


def test_headers_that_an_older_nginx_sends_twice_are_joined(stack):
    pairs = [("HTTP_X_A", "1"), ("HTTP_COOKIE", "a=1"), ("HTTP_X_A", "2"), ("HTTP_COOKIE", "b=2")]
    assert headers_named(stack, pairs, "x-a") == ["1, 2"]
    assert headers_named(stack, pairs, "cookie") == ["a=1; b=2"]


def test_of_a_var_that_comes_twice_the_last_stands(stack):
    pairs = [
        *vars_for("/surroundings", REMOTE_ADDR="192.0.2.1", REQUEST_SCHEME="https").items(),
        ("REMOTE_ADDR", "203.0.113.9"),
        ("REQUEST_SCHEME", "http"),
        ("PATH_INFO", "/arrived"),
        ("HTTP_HOST", "first.example"),
        ("HTTP_HOST", "last.example:8080"),
    ]
    answer = speak(stack, encode_packet(pairs))
    assert b'"client": "203.0.113.9"' in answer
    assert b'"scheme": "http"' in answer
    assert b'["host", "last.example:8080"]' in answer


def test_lengths_and_types_with_http_are_dropped(stack):
    pairs = [
        ("CONTENT_LENGTH", ""),
        ("CONTENT_TYPE", ""),
        ("HTTP_CONTENT_LENGTH", "5"),
        ("HTTP_CONTENT_TYPE", "text/html"),
        ("HTTP_TRANSFER_ENCODING", "chunked"),
        ("HTTP_PROXY", "http://intruder.example"),
    ]
    for name in ("content-length", "content-type", "transfer-encoding", "proxy"):
        assert headers_named(stack, pairs, name) == []


@pytest.mark.parametrize(
    ("variables", "scheme"),
    [
        ({"REQUEST_SCHEME": "https"}, b"https"),
        ({"REQUEST_SCHEME": "http", "HTTPS": ""}, b"http"),
        ({"HTTPS": "on"}, b"https"),
        ({"HTTPS": ""}, b"http"),
        ({"HTTPS": "on", "REQUEST_SCHEME": "http"}, b"https"),
        ({"HTTPS": "off", "REQUEST_SCHEME": "https"}, b"http"),
        ({"UWSGI_SCHEME": "https", "HTTPS": "off", "REQUEST_SCHEME": "http"}, b"https"),
        ({}, b"http"),
        ({"HTTP_X_FORWARDED_PROTO": "https"}, b"http"),
    ],
)
def test_the_vars_tell_the_scheme(stack, variables, scheme):
    answer = speak(stack, encode_packet(vars_for("/arrived", **variables)))
    assert b'"scheme": "%b"' % scheme in answer


@pytest.mark.parametrize("version", ["1.0", "1.1", "2.0", "3.0"])
def test_the_version_is_what_the_client_spoke(stack, version):
    answer = speak(stack, encode_packet(vars_for("/arrived", SERVER_PROTOCOL=f"HTTP/{version}")))
    accepted = {f"HTTP/{version}", f"HTTP/{version.removesuffix('.0')}"}
    assert any(b'"http_version": "%b"' % text.encode() in answer for text in accepted)


# --- The answer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [b"", b"&length=100000"])
def test_a_broken_answer_is_reset(stack, length):
    packet = encode_packet(vars_for("/body", QUERY_STRING=f"bytes=70000&fail=1{length.decode()}"))
    with closing(connect(stack.address)) as connection:
        connection.sendall(packet)
        with pytest.raises(ConnectionResetError):
            read_all(connection)


@pytest.mark.parametrize("status", ["100", "103"])
def test_an_interim_status_never_leaves(stack, status):
    query = 'spec={"status":' + status + "}"
    answer = speak(stack, encode_packet(vars_for("/as-told", QUERY_STRING=query)))
    assert answer.startswith(b"HTTP/1.1 500 ")


def test_an_unread_body_does_not_cost_the_answer(stack):
    packet = encode_packet(vars_for("/unread", QUERY_STRING="bytes=1000", CONTENT_LENGTH="100000"))
    with closing(connect(stack.address)) as connection:
        connection.sendall(packet + bytes(60_000))
        # The end is announced while the rest of the body is still to come.
        answer = read_all(connection)
        connection.sendall(bytes(40_000))
    assert len(answer.partition(b"\r\n\r\n")[2]) == 1000
