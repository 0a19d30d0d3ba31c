"""What a client, and the operator, see of an application that fails: a failure, never a short answer."""

from __future__ import annotations

import contextlib

import pytest
import requests

from uwsgibridge.testing import event_with

pytestmark = pytest.mark.every_loop

# Ten bytes stay in Nginx's buffers, 3 MB are on their way to the client when the failure comes.
SIZES = pytest.mark.parametrize("size", [10, 3_000_000])
LENGTHS = pytest.mark.parametrize("length", ["", "&length=4000000"], ids=["no-length", "length"])

TRUNCATED = (requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError)


def failures_at(stack, path):
    return [event for event in stack.log_events() if event.get("path") == path]


def test_a_failure_before_the_head_is_a_500_and_logged_once(stack, client, token):
    path = f"/fail-before/{token}"
    answer = client.get(stack.url + path)
    assert answer.status_code == 500
    assert answer.headers["Content-Type"].startswith("text/plain")
    event = stack.wait_for_event(event_with(event="application failed", path=path))
    assert event["level"] == "error"
    assert event["outcome"] == "answered 500"
    traceback = str(event["exception"])
    assert traceback.rstrip().endswith(f"DeliberateError: {path}")
    assert "exercises" in traceback
    assert "uwsgibridge/" not in traceback
    # Nothing of it goes to the client.
    assert "Deliberate" not in answer.text
    assert len(failures_at(stack, path)) == 1


@LENGTHS
def test_a_failure_before_the_first_byte_is_a_500_too(stack, client, token, length):
    path = f"/body/{token}"
    answer = client.get(f"{stack.url}{path}?bytes=0&fail=1{length}")
    assert answer.status_code == 500
    event = stack.wait_for_event(event_with(event="application failed", path=path))
    assert event["outcome"] == "answered 500"


@SIZES
@LENGTHS
def test_a_failure_after_it_is_seen_by_the_client(stack, client, token, size, length):
    path = f"/body/{token}"
    assert_truncated(client, f"{stack.url}{path}?bytes={size}&fail=1{length}")
    event = stack.wait_for_event(event_with(event="application failed", path=path))
    assert event["outcome"] == "connection broken"
    assert str(event["exception"]).rstrip().endswith(f"DeliberateError: {path}")
    assert len(failures_at(stack, path)) == 1


@SIZES
@LENGTHS
def test_it_is_seen_while_an_upload_is_unread(stack, client, token, size, length):
    """On a unix socket the connection can only be broken with the upload's help."""
    for below in ("", "/unbuffered"):
        url = f"{stack.url}{below}/body/{token}?bytes={size}&fail=1{length}"
        with contextlib.suppress(*TRUNCATED):
            answer = client.post(url, data=bytes(1_000_000), timeout=20)
            # Nginx may learn of the end while it still sends, before it has read the head.
            assert answer.status_code == 502


@SIZES
def test_an_answer_shorter_than_its_content_length_is_seen(stack, client, token, size):
    path = f"/body/{token}"
    assert_truncated(client, f"{stack.url}{path}?bytes={size}&length=4000000")
    event = stack.wait_for_event(event_with(event="application broke a rule", path=path))
    assert event["outcome"] == "connection broken"
    assert "4000000" in str(event["detail"])


def test_the_bridge_serves_on_after_failures(stack, client, token):
    for _ in range(10):
        assert client.get(f"{stack.url}/fail-before/{token}").status_code == 500
        assert_truncated(client, f"{stack.url}/body/{token}?bytes=10&fail=1")
    assert client.get(f"{stack.url}/arrived").status_code == 200


def assert_truncated(client, url, **request):
    request.setdefault("method", "GET")
    with pytest.raises(TRUNCATED):
        client.request(url=url, timeout=20, **request)
