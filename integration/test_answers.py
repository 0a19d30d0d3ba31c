"""What a client gets of an answer: the rows of "The answer" behind a real Nginx."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from uwsgibridge.testing import event_with

pytestmark = pytest.mark.every_loop


@pytest.fixture
def told(stack, exchange, token):
    """Have the application answer as it is told, at a path that nobody else uses."""

    def told(*, method="GET", below="", **spec):
        target = f"{below}/as-told/{token}?spec={quote(json.dumps(spec))}"
        return exchange(stack.url, target, method=method)

    return told


def test_an_answer_comes_with_nginxs_own_date_and_server(told):
    answer = told(headers=[["Content-Type", "text/plain"], ["X-One", "1"]], body="hello")
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.headers["X-One"] == "1"
    assert answer.headers["Content-Length"] == "5"
    assert len(answer.headers.get_all("Date")) == 1
    assert answer.headers.get_all("Server") == ["nginx"]
    assert "Status" not in answer.headers


def test_an_applications_own_date_stays(told):
    date = "Sat, 01 Jan 2000 00:00:00 GMT"
    assert told(headers=[["Date", date]]).headers.get_all("Date") == [date]


def test_repeated_headers_of_an_answer_stay_apart(told):
    answer = told(headers=[["Set-Cookie", "a=1"], ["Set-Cookie", "b=2; Path=/"]])
    assert answer.headers.get_all("Set-Cookie") == ["a=1", "b=2; Path=/"]


@pytest.mark.parametrize(
    ("method", "status", "body"),
    [("HEAD", 200, "ignored"), ("HEAD", 404, ""), ("GET", 204, "ignored"), ("GET", 304, "ignored")],
)
def test_some_answers_carry_no_body(told, method, status, body):
    answer = told(method=method, status=status, headers=[["X-One", "1"]], body=body)
    assert (answer.status, answer.body) == (status, b"")
    assert answer.headers["X-One"] == "1"


def test_head_keeps_the_length_of_the_application(told):
    answer = told(method="HEAD", headers=[["Content-Length", "1234"]])
    assert answer.headers["Content-Length"] == "1234"


@pytest.mark.parametrize("status", [200, 201, 301, 404, 418, 500, 599])
def test_a_status_passes(told, status):
    answer = told(status=status, headers=[["Location", "/elsewhere"]], body="said")
    assert (answer.status, answer.body) == (status, b"said")


@pytest.mark.parametrize("length", [[], [["Content-Length", "5"]]])
def test_transfer_encoding_of_an_application_is_dropped(told, length):
    headers = [["Transfer-Encoding", "chunked"], *length, ["Content-Type", "text/plain"]]
    answer = told(headers=headers, body="hello")
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.headers["Content-Length"] == "5"
    assert "Transfer-Encoding" not in answer.headers


def test_hop_by_hop_headers_of_an_application_are_dropped(told):
    headers = [["Connection", "X-Secret"], ["Keep-Alive", "timeout=9"], ["Trailer", "X-Later"]]
    answer = told(headers=[*headers, ["Upgrade", "x"], ["X-Secret", "kept"]], body="hello")
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.headers["Connection"] != "X-Secret"
    assert answer.headers["X-Secret"] == "kept"
    assert not {"Keep-Alive", "Trailer", "Upgrade"} & set(answer.headers.keys())


@pytest.mark.parametrize("status", [100, 101, 103])
def test_an_interim_status_is_never_sent(stack, told, token, status):
    answer = told(status=status, headers=[["Link", "</style.css>"]], body="hello")
    assert answer.status == 500
    event = stack.wait_for_event(
        event_with(event="application broke a rule", path=f"/as-told/{token}")
    )
    assert f"status {status} is interim" in str(event["detail"])


def test_an_upgrade_nobody_asked_the_application_for_is_a_plain_request(stack, exchange):
    headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
    ]
    assert exchange(stack.url, "/arrived", headers=headers).status == 200


@pytest.mark.parametrize(
    "header",
    [
        ["X-One", "1\r\nX-Two: 2"],
        ["X-One", "1\nX-Two: 2"],
        ["X-One", "1\r"],
        ["X-One", "1\x00"],
        ["X-One: 1\r\nX-Two", "2"],
        ["X One", "1"],
        ["", "1"],
    ],
)
def test_no_line_break_gets_into_a_head(stack, told, token, header):
    answer = told(headers=[header], body="hello")
    assert answer.status == 500
    assert "X-Two" not in answer.headers
    stack.wait_for_event(event_with(event="application broke a rule", path=f"/as-told/{token}"))


def test_a_head_larger_than_nginxs_buffer_is_502_and_our_log_names_the_header(
    stack, exchange, token
):
    answer = exchange(stack.url, f"/large-header/{token}?bytes=40000")
    assert answer.status == 502
    event = stack.wait_for_event(
        lambda event: event.get("path") == f"/large-header/{token}" and "head_bytes" in event
    )
    assert str(event["largest_header"]).lower() == "x-large"
    assert event["largest_header_bytes"] == len("X-Large: ") + 40_000
    assert "uwsgi_buffer_size" in str(event["option"])


def test_a_head_that_fits_the_shipped_buffer_passes_without_a_word(stack, exchange, token):
    answer = exchange(stack.url, f"/large-header/{token}?bytes=30000")
    assert (answer.status, answer.body) == (200, b"small")
    assert len(answer.headers["X-Large"]) == 30_000
    assert not [
        event for event in stack.log_events() if event.get("path") == f"/large-header/{token}"
    ]


def test_x_accel_redirect_is_honoured(told):
    answer = told(headers=[["X-Accel-Redirect", "/internal/x"]], body="not this")
    assert (answer.status, answer.body) == (200, b"from nginx itself")
    assert "X-Accel-Redirect" not in answer.headers


def test_x_accel_charset_is_honoured(told):
    answer = told(headers=[["X-Accel-Charset", "koi8-r"], ["Content-Type", "text/html"]])
    assert answer.headers["Content-Type"] == "text/html; charset=koi8-r"
    assert "X-Accel-Charset" not in answer.headers


@pytest.mark.parametrize(
    "header",
    [["X-Accel-Buffering", "no"], ["X-Accel-Expires", "0"], ["X-Accel-Limit-Rate", "1000000"]],
)
def test_x_accel_headers_are_for_nginx_alone(told, header):
    answer = told(headers=[header], body="hello")
    assert answer.body == b"hello"
    assert header[0] not in answer.headers


def test_more_bytes_than_the_content_length_are_cut(stack, exchange, token):
    answer = exchange(stack.url, f"/body/{token}?bytes=100&length=40")
    assert (answer.status, len(answer.body)) == (200, 40)
    event = stack.wait_for_event(
        lambda event: event.get("path") == f"/body/{token}" and "excess_bytes" in event
    )
    assert event["excess_bytes"] == 60


@pytest.mark.parametrize("length", ["", "&length=3000000"])
def test_a_long_answer_is_whole(stack, client, length):
    answer = client.get(f"{stack.url}/body?bytes=3000000{length}")
    assert len(answer.content) == 3_000_000
    pattern = bytes(range(256)) * (3_000_000 // 256 + 1)
    assert answer.content == pattern[:3_000_000]


def test_an_empty_answer_is_whole(told):
    answer = told()
    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", "0")


def test_what_is_refused_without_an_answer_is_502(stack, exchange):
    """Nothing, and then the end of the connection."""
    before = len(stack.log_events())
    answer = exchange(stack.url, "/command/arrived")
    assert answer.status == 502
    event = stack.wait_for_event(
        event_with(event="refused", reason="unsupported_modifier"), since=before
    )
    assert "modifier1 22" in str(event["detail"])


def test_a_wrong_length_is_a_bad_request(stack, exchange):
    before = len(stack.log_events())
    answer = exchange(stack.url, "/wrong-length/arrived")
    assert answer.status == 400
    stack.wait_for_event(event_with(event="refused", reason="invalid_content_length"), since=before)


def test_proxy_pass_to_the_bridge_is_told_in_words(stack, exchange):
    answer = exchange(stack.url, "/by-http/")
    assert answer.status == 400
    assert b"use uwsgi_pass (not proxy_pass)" in answer.body


def test_vars_of_uwsgi_load_nothing(stack, exchange):
    before = exchange(stack.url, "/surroundings").json()
    answer = exchange(stack.url, "/intruding/arrived")
    assert answer.json()["vars"]["UWSGI_MODULE"] == "intruder"  # they did arrive
    assert exchange(stack.url, "/surroundings").json() == before
    assert before["modules"] == []
