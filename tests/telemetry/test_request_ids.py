"""Ids of requests, apart from who asks for them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from uwsgibridge import Settings, SettingsError, add_request_id, request_id
from uwsgibridge.protocol.answers import OwnAnswer, not_mounted
from uwsgibridge.protocol.packet import Packet
from uwsgibridge.protocol.request import Request
from uwsgibridge.telemetry.request_ids import KEPT_AS, IdHeader, current_request, request_ids


def make_request(**variables: str) -> Request:
    return Request(Packet(0, {"REQUEST_METHOD": "GET", "PATH_INFO": "/", **variables}, 0))


def test_outside_of_a_request_there_is_none():
    assert request_id() is None
    assert add_request_id(None, "info", {"event": "a"}) == {"event": "a"}


def test_processor_of_structlog_leaves_an_id_that_is_there():
    token = current_request.set(make_request(REQUEST_ID="a"))
    try:
        assert add_request_id(None, "info", {"event": "x"}) == {"event": "x", "request_id": "a"}
        given = {"event": "x", "request_id": "mine"}
        assert add_request_id(None, "info", given) == given
    finally:
        current_request.reset(token)


@pytest.fixture
def switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("switching_often")
def test_threads_that_ask_at_once_get_one_id():
    requests = [make_request() for _ in range(200)]
    meeting = threading.Barrier(4)
    found: list[list[str]] = []

    def ask() -> None:
        meeting.wait(10)
        found.append([request_ids.of(it) for it in requests])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for it in threads:
        it.start()
    for it in threads:
        it.join(10)
    assert len(set(found[0])) == 200
    assert found == [found[0]] * 4


def test_empty_answer_stays_empty():
    assert IdHeader("X-Id").add_to_own(make_request(), OwnAnswer(0, b"", 0)).data == b""


def test_own_answer_has_the_header_once_and_the_same_body():
    answer = IdHeader("X-Id").add_to_own(make_request(REQUEST_ID="a"), not_mounted("GET"))
    head, _, body = answer.data.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[:2] == [b"HTTP/1.1 404 Not Found", b"X-Id: a"]
    assert len(body) == answer.body_bytes


@pytest.mark.parametrize("headers", [None, 7, [1], [("a",)], [(None, b"x")], [(10**12, b"x")]])
def test_what_is_no_list_of_headers_is_left_to_who_refuses_it(headers: Any):
    assert IdHeader("X-Id").add_to(make_request(), headers) == headers


def test_broken_headers_of_a_generator_are_not_lost():
    headers = (it for it in [(b"a", b"b"), (None, b"c")])
    assert IdHeader("X-Id").add_to(make_request(), headers) == [(b"a", b"b"), (None, b"c")]


def test_var_of_the_name_of_the_kept_id_is_held_to_the_same_rule():
    assert request_ids.of(make_request(**{KEPT_AS: "\u00e4\r\nX: 1", "REQUEST_ID": "a"})) == "a"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"request_id_header": "X Id"}, "--request-id-header 'X Id' is no name of a header"),
        ({"request_id_header": "X\r\nId"}, "is no name of a header"),
        ({"request_id_header": "Content-Length"}, "has a meaning of its own"),
        ({"request_id_from": ("x-request-id",)}, "--request-id-from 'x-request-id' is no var"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str):
    with pytest.raises(SettingsError, match=words):
        Settings(**options)
