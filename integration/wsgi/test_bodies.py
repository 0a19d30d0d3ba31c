"""Bodies both ways: read like any file, within limits of size and time, ended where the answer ends.

One thread serves each stack, so an answer to the next request shows that it is free.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from integration.wsgi.apps.bodies import LARGE_BYTES, READERS
from integration.wsgi.conftest import assert_no_complaints, mount
from integration.wsgi.fetching import fetch
from integration.wsgi.raw_http import RawHttp
from uwsgibridge.client import ping
from uwsgibridge.frontend.options import StaticDirectory
from uwsgibridge.testing import Site, event_with

if TYPE_CHECKING:
    from uwsgibridge.testing import LocalStack

LIMIT_BYTES = 1000

SHORT_SECONDS = 0.3

# For an answer that its client does not read. Nginx is to have passed the head on before: what it has not
# taken yet when a TCP connection is broken is lost, and a busy machine keeps it from doing anything for a while.
WRITE_SECONDS = 2.0


@pytest.fixture(scope="module")
def large_file(exercise_directory: Path) -> Path:
    path = exercise_directory / "large"
    with path.open("wb") as file:
        file.truncate(LARGE_BYTES)
    (exercise_directory / "files" / "named").write_bytes(b"of the file")
    return path


@pytest.fixture(scope="module")
def limited(serve: Callable[..., LocalStack], large_file: Path) -> Iterator[LocalStack]:
    """A stack with a small limit, and the deadlines that are the default."""
    files = str(large_file.parent / "files")
    stack = serve(
        "bodies:application",
        environment={"EXERCISE_DIRECTORY": str(large_file.parent)},
        serve_args=(
            *("--threads", "1", "--max-body-bytes", str(LIMIT_BYTES)),
            *("--offload", f"/protected={files}"),
        ),
        site=Site(offload=(StaticDirectory("/protected/", files),)),
    )
    yield stack
    assert_no_complaints(stack)


@pytest.fixture(scope="module")
def hasty(serve: Callable[..., LocalStack], large_file: Path) -> Iterator[LocalStack]:
    """A stack with short deadlines, and an Nginx that keeps nothing back."""
    stack = serve(
        "bodies:application",
        environment={"EXERCISE_DIRECTORY": str(large_file.parent)},
        serve_args=(
            *("--threads", "1"),
            *("--body-timeout-seconds", str(SHORT_SECONDS)),
            *("--write-timeout-seconds", str(WRITE_SECONDS)),
            *mount("/flask=flask_app:plain", "/django=django_site.wsgi:plain"),
        ),
        site=Site(request_buffering=False, response_buffering=False),
    )
    yield stack
    assert_no_complaints(stack)


# --- Like a file ----------------------------------------------------------------------------------

LINES = b"one\ntwo is longer than that\n\nthree\n\nfive\nsix\nseven\nand no end of the last line"


@pytest.mark.parametrize("reader", READERS)
def test_input_reads_like_a_file(hasty: LocalStack, reader: str):
    expected = [piece.decode() for piece in READERS[reader](io.BytesIO(LINES))]
    url = f"{hasty.url}/read-as/{reader}"
    assert fetch(url, method="POST", body=LINES).json() == expected

    # And like the same file where it comes later, in pieces.
    before = len(hasty.log_events())
    with RawHttp(url, method="POST", content_length=len(LINES)) as slow:
        hasty.wait_for_event(event_with(line="reading"), since=before)
        for start in range(0, len(LINES), 10):
            slow.send(LINES[start : start + 10])
        answer = slow.read_to_end()
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == expected


# --- Without an end -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("HEAD", "endless", 200, b""),
        ("HEAD", "endless-beyond-its-length", 200, b""),
        ("GET", "endless-beyond-its-length", 200, b"1234512345"),
        ("GET", "endless-without-a-body", 204, b""),
        ("GET", "endless-beside-a-file", 200, b"of the file"),
    ],
)
def test_endless_body_ends_where_nothing_of_it_is_sent(
    limited: LocalStack, method: str, path: str, status: int, body: bytes
):
    fetch(f"{limited.url}/state")
    answer = fetch(f"{limited.url}/{path}", method=method)
    assert (answer.seen, answer.body) == (status, body)
    # The only thread answers: it is free, and has closed it once.
    assert fetch(f"{limited.url}/state").json()["closed"] == ["endless"]


def test_generator_goes_on_behind_its_last_piece(limited: LocalStack):
    fetch(f"{limited.url}/state")
    assert fetch(f"{limited.url}/goes-on-behind-the-last").body == b"1234567890"
    assert fetch(f"{limited.url}/state").json()["closed"] == ["went on"]


def test_write_behind_the_end_fails(limited: LocalStack):
    fetch(f"{limited.url}/state")
    answer = fetch(f"{limited.url}/writes-on")
    assert (answer.seen, answer.body) == (200, b"1234512345")
    (told,) = fetch(f"{limited.url}/state").json()["closed"]
    assert "behind the end of the body" in told


# --- The same head for HEAD -----------------------------------------------------------------------


def test_head_has_the_length_that_get_has(limited: LocalStack):
    url = f"{limited.url}/read-as/iteration"
    head, get = (fetch(url, method=method) for method in ("HEAD", "GET"))

    assert (head.seen, head.body) == (200, b"")
    assert head.headers["Content-Length"] == get.headers["Content-Length"] == str(len(get.body))


# --- Too large ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [LIMIT_BYTES + 1, 3_000_000])
def test_body_over_the_limit_never_reaches_the_application(limited: LocalStack, size: int):
    fetch(f"{limited.url}/state")
    before = len(limited.log_events())
    answer = fetch(f"{limited.url}/read", method="POST", body=bytes(size))

    assert answer.seen == 413
    assert answer.body == f"the body has {size} bytes, the limit is {LIMIT_BYTES}\n".encode()
    event = limited.wait_for_event(event_with(event="refused"), since=before)
    assert event["status"] == 413
    assert event["reason"] == "body_over_limit"
    assert event["option"] == "--max-body-bytes"
    assert fetch(f"{limited.url}/state").json()["called"] == []


@pytest.mark.parametrize("size", [0, 1, LIMIT_BYTES])
def test_body_up_to_the_limit_does(limited: LocalStack, size: int):
    answer = fetch(f"{limited.url}/read", method="POST", body=bytes(size))
    assert (answer.seen, answer.body) == (200, str(size).encode())


def test_body_in_chunks_counts_too(limited: LocalStack, browser: requests.Session):
    def chunks(count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield bytes(100)

    assert browser.post(f"{limited.url}/read", data=chunks(10)).text == "1000"
    assert browser.post(f"{limited.url}/read", data=chunks(11)).status_code == 413


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_body_that_is_not_read_harms_nothing(hasty: LocalStack, size: int):
    for _ in range(3):
        answer = fetch(f"{hasty.url}/unread", method="POST", body=bytes(size))
        assert (answer.seen, answer.body) == (200, b"not read")


# --- Too slow to arrive ---------------------------------------------------------------------------


def assert_free(stack: LocalStack) -> None:
    assert fetch(f"{stack.url}/unread").body == b"not read"


def test_body_that_stalls_is_answered_408(hasty: LocalStack):
    before = len(hasty.log_events())
    with RawHttp(f"{hasty.url}/read", method="POST", content_length=100_000) as stalled:
        stalled.send(bytes(50_000))
        event = hasty.wait_for_event(
            event_with(event="request body did not arrive in time"), since=before
        )
        # Its client is still there, and still silent.
        assert_free(hasty)
        answer = stalled.read_until(b"did not arrive in time.\n")

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert event["path"] == "/read"
    assert event["level"] == "warning"
    assert event["option"] == "--body-timeout-seconds"
    assert event["outcome"] == "answered 408"


def test_body_that_stalls_during_the_answer_breaks_it(hasty: LocalStack):
    before = len(hasty.log_events())
    with RawHttp(
        f"{hasty.url}/read-during-the-answer", method="POST", content_length=100_000
    ) as stalled:
        stalled.send(bytes(50_000))
        event = hasty.wait_for_event(
            event_with(event="request body did not arrive in time"), since=before
        )
        assert event["outcome"] == "connection broken"
        assert_free(hasty)


def test_body_that_nginx_holds_back_from_an_answer_that_has_begun_is_told(
    serve: Callable[..., LocalStack],
):
    """Nginx has all of it, and sends no more."""
    stack = serve(
        "bodies:application",
        serve_args=("--threads", "1", "--body-timeout-seconds", str(SHORT_SECONDS)),
        site=Site(response_buffering=False),
    )
    size_bytes = 1 << 24
    url = f"{stack.url}/read-during-the-answer"
    with RawHttp(url, method="POST", content_length=size_bytes) as client:
        client.send(bytes(size_bytes))
        event = stack.wait_for_event(event_with(event="request body did not arrive in time"))
        assert_free(stack)
    assert "read the body first" in str(event["hint"])


def test_application_may_answer_a_stalled_body_itself(hasty: LocalStack):
    before = len(hasty.log_events())
    with RawHttp(f"{hasty.url}/read-carefully", method="POST", content_length=100_000) as stalled:
        stalled.send(bytes(50_000))
        answer = stalled.read_until(b"BodyStalled")
        assert_free(hasty)
    hasty.wait_for_event(
        event_with(event="request body did not arrive in time", path="/read-carefully"),
        since=before,
    )
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert "error" not in {event["level"] for event in hasty.log_events(since=before)}


@pytest.mark.parametrize("path", ["/flask/body", "/django/body"])
def test_stall_is_told_whatever_a_framework_makes_of_it(hasty: LocalStack, path: str):
    """They turn the exception into one of their own, and answer by themselves."""
    before = len(hasty.log_events())
    with RawHttp(f"{hasty.url}{path}", method="POST", content_length=100_000) as stalled:
        stalled.send(bytes(50_000))
        answer = stalled.read_until(b"\r\n\r\n")
        assert_free(hasty)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 408 ", b"HTTP/1.1 500 "))
    # By its path: the request of a test before this one may be told of only now.
    event = hasty.wait_for_event(
        event_with(event="request body did not arrive in time", path=path),
        since=before,
        timeout_seconds=10,
    )
    assert event["option"] == "--body-timeout-seconds"


def test_body_that_has_stalled_has_no_hole(hasty: LocalStack):
    """An application that reads on is told so at once, whatever has arrived since."""
    before = len(hasty.log_events())
    url = f"{hasty.url}/read-on-after-a-stall"
    with RawHttp(url, method="POST", content_length=100_000) as stalled:
        stalled.send(bytes(50_000))
        hasty.wait_for_event(event_with(line="caught"), since=before)
        stalled.send(bytes(50_000))
        answer = stalled.read_to_end()

    told = json.loads(answer[answer.index(b"{") : answer.rindex(b"}") + 1])
    assert told["bytes"] == 50_000
    assert told["errors"]["BodyStalled"] == 50
    assert told["seconds"] < 10 * SHORT_SECONDS
    event = hasty.wait_for_event(
        event_with(event="request body did not arrive in time"), since=before
    )
    assert event["outcome"] == "the application answered 200"


@pytest.mark.parametrize("path", ["fails-midway", "read-during-the-answer"])
def test_clients_that_stall_take_no_place(
    serve_alone: Callable[..., LocalStack], large_file: Path, path: str
):
    """Connections that can't be broken yet are not among those that requests wait for."""
    most = 24
    with (
        serve_alone(
            "bodies:application",
            environment={"EXERCISE_DIRECTORY": str(large_file.parent)},
            serve_args=(
                *("--threads", "1", "--accept-margin", "2"),
                *("--body-timeout-seconds", "0.01", "--linger-seconds", "0.5"),
            ),
            site=Site(request_buffering=False, response_buffering=False),
            graceful_timeout_seconds=0.5,
        ) as stack,
        ExitStack() as undo,
    ):
        for number in range(most):
            url = f"{stack.url}/{path}"
            stalled = undo.enter_context(RawHttp(url, method="POST", content_length=1000))
            stalled.send(b"1")
            stack.wait_for_event(event_with(outcome="connection broken"), since=number + 1)
        assert_free(stack)
        assert ping(stack.address) < 1
        # A stop does not wait for them for longer than it waits for anything.
        assert stack.bridge.stop() == 0


# --- Too slow to be taken -------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["iterable", "list", "write", "file"])
def test_reader_that_does_not_read_holds_no_thread(hasty: LocalStack, way: str):
    fetch(f"{hasty.url}/state")
    before = len(hasty.log_events())
    with RawHttp(f"{hasty.url}/large-{way}", receive_buffer_bytes=4096) as reader:
        head = reader.read_until(b"\r\n\r\n")
        event = hasty.wait_for_event(event_with(event="answer was not taken in time"), since=before)
        # Its client is still there, and still does not read.
        assert fetch(f"{hasty.url}/state").json() == {
            "called": [f"large-{way}"],
            "closed": ["large"],
        }
        rest = reader.read_to_end()

    assert head.startswith(b"HTTP/1.1 200 OK")
    assert event["path"] == f"/large-{way}"
    assert event["option"] == "--write-timeout-seconds"
    assert event["outcome"] == "connection broken"
    # What had been on its way came, and no end of the answer.
    assert len(rest) < LARGE_BYTES
    assert not rest.endswith(b"0\r\n\r\n")
    assert "error" not in {one["level"] for one in hasty.log_events(since=before)}


def test_answer_to_a_reader_that_has_stalled_has_no_hole(hasty: LocalStack):
    """Even where the application takes no notice, and the client reads on."""
    fetch(f"{hasty.url}/state")
    before = len(hasty.log_events())
    with RawHttp(f"{hasty.url}/writes-on-after-a-stall", receive_buffer_bytes=4096) as reader:
        reader.read_until(b"\r\n\r\n")
        hasty.wait_for_event(event_with(line="caught"), since=before)
        rest = reader.read_to_end()

    assert len(rest) < LARGE_BYTES
    assert not rest.endswith(b"0\r\n\r\n")
    event = hasty.wait_for_event(event_with(event="answer was not taken in time"), since=before)
    assert event["outcome"] == "connection broken"
    assert fetch(f"{hasty.url}/state").json()["closed"] == ["ReaderStalled"]


@pytest.mark.parametrize("way", ["iterable", "list", "write", "file"])
def test_reader_that_reads_gets_all(limited: LocalStack, way: str):
    assert len(fetch(f"{limited.url}/large-{way}").body) == LARGE_BYTES
