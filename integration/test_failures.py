"""What a client, and the operator, see of an application that fails: a failure, never a short answer."""

from __future__ import annotations

import pytest
import requests

from uwsgibridge.testing import event_with

pytestmark = pytest.mark.every_loop

# Ten bytes stay in Nginx's buffers, 3 MB are on their way to the client when the failure comes.
SIZES = pytest.mark.parametrize("size", [0, 10, 3_000_000])
LENGTHS = pytest.mark.parametrize("length", ["", "&length=4000000"], ids=["no-length", "length"])

TRUNCATED = (requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError)


def failures_at(stack, path):
    return [
        event
        for event in stack.log_events()
        if event.get("path") == path and event["event"] != "listening"
    ]


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


@SIZES
@LENGTHS
def test_a_failure_after_the_head_is_seen_by_the_client(stack, client, token, size, length):
    if size == 0 and not length:
        pytest.skip("the head of a WSGI answer leaves with the first byte of its body")
    path = f"/body/{token}"
    with pytest.raises(TRUNCATED), client.get(
        f"{stack.url}{path}?bytes={size}&fail=1{length}", stream=True
    ) as answer:
        if size == 0:
            # Its head has not left either, where the host could keep it back.
            answer.raise_for_status()
        assert len(answer.content) < 0, "the client took it for whole"
    event = stack.wait_for_event(event_with(event="application failed", path=path))
    assert event["outcome"] == "connection broken"
    assert str(event["exception"]).rstrip().endswith(f"DeliberateError: {path}")
    assert len(failures_at(stack, path)) == 1
