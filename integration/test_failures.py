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


def ask_once(url, method="GET", **options):
    """Ask over a connection of its own: the end of an earlier one would look like a truncation."""
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, timeout=20, **options)


def assert_truncated(url):
    """The head has come, so what is missing is missing in the body."""
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        ask_once(url)


def failures_at(stack, path):
    return [event for event in stack.log_events() if event.get("path") == path]


def test_a_failure_before_the_head_is_a_500_and_logged_once(stack, token):
    path = f"/fail-before/{token}"
    answer = ask_once(stack.url + path)
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
def test_a_failure_before_the_first_byte_is_a_500_too(stack, token, length):
    path = f"/body/{token}"
    answer = ask_once(f"{stack.url}{path}?bytes=0&fail=1{length}")
    assert answer.status_code == 500
    event = stack.wait_for_event(event_with(event="application failed", path=path))
    assert event["outcome"] == "answered 500"


@SIZES
@LENGTHS
def test_a_failure_after_it_is_seen_by_the_client(stack, token, size, length):
    path = f"/body/{token}"
    assert_truncated(f"{stack.url}{path}?bytes={size}&fail=1{length}")
    event = stack.wait_for_event(event_with(event="application failed", path=path))
    assert event["outcome"] == "connection broken"
    assert str(event["exception"]).rstrip().endswith(f"DeliberateError: {path}")
    assert len(failures_at(stack, path)) == 1


@SIZES
@LENGTHS
@pytest.mark.parametrize("below", ["", "/unbuffered"])
def test_it_is_seen_while_an_upload_is_unread(stack, token, below, size, length):
    """On a unix socket the connection can only be broken with the upload's help."""
    path = f"{below}/body/{token}"
    # Nginx may learn of the end while it still sends, before it has read the head: then it is 502.
    with contextlib.suppress(requests.exceptions.ChunkedEncodingError):
        answer = ask_once(
            f"{stack.url}{path}?bytes={size}&fail=1{length}", method="POST", data=bytes(1_000_000)
        )
        assert answer.status_code == 502
    event = stack.wait_for_event(event_with(event="application failed", path=path))
    assert event["outcome"] == "connection broken"


@SIZES
def test_an_answer_shorter_than_its_content_length_is_seen(stack, token, size):
    path = f"/body/{token}"
    assert_truncated(f"{stack.url}{path}?bytes={size}&length=4000000")
    event = stack.wait_for_event(event_with(event="application broke a rule", path=path))
    assert event["outcome"] == "connection broken"
    assert "4000000" in str(event["detail"])


def test_the_bridge_serves_on_after_failures(stack, token):
    for _ in range(10):
        assert ask_once(f"{stack.url}/fail-before/{token}").status_code == 500
        assert_truncated(f"{stack.url}/body/{token}?bytes=10&fail=1")
    assert ask_once(f"{stack.url}/arrived").status_code == 200
