"""Requests over their time, in each state that they can be in, and threads that others interrupt.

What their clients see, what becomes of everybody else's requests, and how the worker is replaced.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from integration.wsgi.conftest import APPS
from integration.wsgi.fetching import PATIENCE_SECONDS, fetch
from integration.wsgi.raw_http import RawHttp
from uwsgibridge.testing import LocalStack, Site, event_with

ServeAlone = Callable[..., LocalStack]

APP = "lost_threads:application"

# A body is handed on while it arrives, an answer while it is made.
UNBUFFERED = Site(request_buffering=False, response_buffering=False)

# All requests of a test must have begun by then, on a busy machine, too.
LIMIT_SECONDS = 1.0
LIMIT = ("--request-timeout-seconds", str(LIMIT_SECONDS))

LOST = "stopping to be started again"
OVERDUE = "request took too long"
BROKEN_OFF = "requests were broken off: they did not end in time"

ANSWERED = b"HTTP/1.1 504 "
STOPPING = b"HTTP/1.1 503 "
BEGUN = b"HTTP/1.1 200 "
LAST_CHUNK = b"0\r\n\r\n"

# Where requests hang, with what the log says became of them. Who reads a body that does not come is waited
# for by --body-timeout-seconds: that is the client's time.
PLACES = {
    "before-the-head": "answered 504",
    "before-the-head-of-an-upload": "answered 504",
    "in-the-body": "connection broken",
    "in-the-body-of-a-measured-upload": "connection broken",
    "in-the-body-of-an-upload": "connection broken",
    "in-a-write": "connection broken",
    "in-close": "the answer was complete",
}

# A unix socket can't be broken before something more arrives on it.
SENDING_ON = ("in-the-body-of-an-upload",)


def begin(undo: ExitStack, stack: LocalStack, place: str) -> RawHttp:
    """Ask for a request that hangs there; of an upload, half comes, and no more."""
    is_upload = "upload" in place
    client = undo.enter_context(
        RawHttp(
            f"{stack.url}/{place}",
            method="POST" if is_upload else "GET",
            content_length=100_000 if is_upload else None,
            receive_buffer_bytes=4096,
        )
    )
    if is_upload:
        client.send(bytes(50_000))
    stack.wait_for_event(event_with(line=f"at /{place}"))
    return client


def read_to_end(clients: dict[str, RawHttp]) -> dict[str, bytes]:
    """Read all answers; some of the clients go on sending first."""
    for place in SENDING_ON:
        with contextlib.suppress(OSError):  # broken already, where that needs nothing more
            clients[place].send(b"x")
    return {place: client.read_to_end() for place, client in clients.items()}


def seen_in(answer: bytes) -> str:
    """What the client of an answer in chunks has seen, in the words of the log."""
    if answer.startswith((ANSWERED, STOPPING)):
        return f"answered {answer[9:12].decode()}"
    assert answer.startswith(BEGUN), answer
    return "the answer was complete" if answer.endswith(LAST_CHUNK) else "connection broken"


# --- Its client -----------------------------------------------------------------------------------


def test_client_sees_soon_how_far_the_answer_had_come(serve_alone: ServeAlone):
    """All at once, while their threads hang on: nothing but their own deadline can end them."""
    with (
        serve_alone(
            APP,
            serve_args=(
                *("--threads", str(len(PLACES))),
                *LIMIT,
                *("--on-worker-exit", f"{APPS}.lost_threads:open_gate"),
            ),
            site=UNBUFFERED,
        ) as stack,
        ExitStack() as undo,
    ):
        clients = {place: begin(undo, stack, place) for place in PLACES}
        for place in PLACES:
            stack.wait_for_event(event_with(event=OVERDUE, path=f"/{place}"))
        answers = read_to_end(clients)
        # Then it says so, and ends after the requests that were running.
        assert stack.bridge.wait_ended(PATIENCE_SECONDS) == 1
        assert stack.bridge.log.wait_ended(PATIENCE_SECONDS)
        log = stack.bridge_log
        events = stack.log_events()

    assert {place: seen_in(answer) for place, answer in answers.items()} == PLACES
    assert b"the whole answer\r\n" in answers["in-close"]
    told = [event for event in events if event["event"] == OVERDUE]
    assert {event["path"]: event["outcome"] for event in told} == {
        f"/{place}": outcome for place, outcome in PLACES.items()
    }
    assert len(told) == len(PLACES)
    names = {event["event"] for event in events}
    assert LOST in names
    assert BROKEN_OFF not in names
    assert "application failed" not in names
    assert log.rstrip().endswith("took too long (--request-timeout-seconds)")
    # They were let go at the very end: each was closed once all the same.
    (closed,) = [event for event in events if event["event"] == "app: closed"]
    assert closed["closed"] == closed["made"]
    assert set(Counter(closed["closed"]).values()) == {1}  # type: ignore[call-overload] # parsed JSON


def test_stop_breaks_off_what_does_not_end(serve_alone: ServeAlone):
    places = [place for place in PLACES if place != "in-close"]
    with (
        serve_alone(
            APP,
            serve_args=("--threads", str(len(PLACES))),
            site=UNBUFFERED,
            graceful_timeout_seconds=0.2,
        ) as stack,
        ExitStack() as undo,
    ):
        clients = {place: begin(undo, stack, place) for place in places}
        stack.bridge.signal(signal.SIGTERM)
        stack.wait_for_event(event_with(event=BROKEN_OFF))
        answers = read_to_end(clients)
        assert stack.bridge.wait_ended(PATIENCE_SECONDS) == 0

    outcomes = {place: PLACES[place].replace("504", "503") for place in places}
    assert {place: seen_in(answer) for place, answer in answers.items()} == outcomes
    for answer in answers.values():
        if answer.startswith(STOPPING):
            assert b"\r\nRetry-After: 1\r\n" in answer
            assert answer.endswith(b"The server can't run this request now.\n")


# --- Everybody else -------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "2"])
def test_worker_is_replaced_and_nobody_else_fails(serve_alone: ServeAlone, workers: str):
    over = threading.Event()
    seen: Counter[int | str] = Counter()

    def keep_asking(url: str) -> None:
        while not over.wait(0.005):
            seen[fetch(url).seen] += 1

    with (
        serve_alone(
            APP,
            serve_args=(
                *("--workers", workers, "--threads", "3", *LIMIT),
                *("--on-fork", f"{APPS}.lost_threads:tell_birth"),
            ),
        ) as stack,
        ExitStack() as undo,
        ThreadPoolExecutor(2) as pool,
    ):
        stuck = begin(undo, stack, "before-the-head")
        undo.callback(over.set)
        asking = [pool.submit(keep_asking, f"{stack.url}/quick") for _ in range(2)]
        assert stuck.read_to_end().startswith(ANSWERED)
        event = stack.wait_for_event(event_with(event="recycling worker"))
        stack.wait_for_event(event_with(event="stopped", worker=event["worker"]))
        over.set()
        for one in asking:
            one.result(PATIENCE_SECONDS)
        assert fetch(f"{stack.url}/quick").body != str(event["worker"]).encode()
        events = stack.log_events()

    assert set(seen) == {200}
    assert event["reason"] == (
        "a thread is lost to a request that took too long (--request-timeout-seconds)"
    )
    # The successor is there before the old one drains.
    names = [one["event"] for one in events]
    born = [number for number, name in enumerate(names) if name == "app: born"]
    assert len(born) == int(workers) + 1
    assert born[-1] < names.index("stopping: running requests may end")
    assert LOST not in names


@pytest.mark.parametrize("workers", ["0", "1"], ids=["unsupervised", "forked"])
def test_threads_take_the_place_of_those_that_are_lost(serve_alone: ServeAlone, workers: str):
    with (
        serve_alone(APP, serve_args=("--workers", workers, "--threads", "2", *LIMIT)) as stack,
        ExitStack() as undo,
        ThreadPoolExecutor(3) as pool,
    ):
        places = ["before-the-head", "before-the-head-of-an-upload"]
        stuck = [undo.enter_context(RawHttp(f"{stack.url}/{place}")) for place in places]
        for place in places:
            stack.wait_for_event(event_with(line=f"at /{place}"))
        # Nobody is there to serve these.
        answers = list(pool.map(fetch, [f"{stack.url}/quick"] * 3))
        assert [answer.seen for answer in answers] == [200] * 3
        assert all(one.read_to_end().startswith(ANSWERED) for one in stuck)
        if workers == "0":
            assert stack.bridge.wait_ended(PATIENCE_SECONDS) == 1
            stack.wait_for_event(
                event_with(event=LOST)
            )  # which may be read later than the end is seen
        else:
            stack.wait_for_event(event_with(event="recycling worker"))


@pytest.mark.parametrize("workers", ["0", "1"], ids=["unsupervised", "forked"])
def test_without_any_thread_left_the_answer_is_a_quick_503(serve_alone: ServeAlone, workers: str):
    """The application of one thread may rely on that: no other one takes its place."""
    with (
        serve_alone(APP, serve_args=("--workers", workers, "--threads", "1", *LIMIT)) as stack,
        ExitStack() as undo,
        ThreadPoolExecutor(3) as pool,
    ):
        stuck = begin(undo, stack, "before-the-head")
        answers = list(pool.map(fetch, [f"{stack.url}/quick"] * 3))
        assert [answer.seen for answer in answers] == [503] * 3
        assert {answer.headers["Retry-After"] for answer in answers} == {"1"}
        assert stuck.read_to_end().startswith(ANSWERED)
        stack.wait_for_event(event_with(event=LOST))
        if workers == "0":
            assert stack.bridge.wait_ended(PATIENCE_SECONDS) == 1
        else:
            # What comes meanwhile waits for the next one.
            stack.wait_for_event(event_with(event="worker ended", exit_status=1))
            assert fetch(f"{stack.url}/quick").seen == 200


@pytest.mark.parametrize("workers", ["0", "1"], ids=["unsupervised", "forked"])
def test_thread_that_can_be_interrupted_serves_on(serve_alone: ServeAlone, workers: str):
    with (
        serve_alone(
            APP,
            serve_args=(
                *("--workers", workers, "--threads", "1", *LIMIT),
                *("--request-interrupt-seconds", str(PATIENCE_SECONDS)),
            ),
        ) as stack,
        ExitStack() as undo,
    ):
        pid = fetch(f"{stack.url}/thread").body.split()[0]
        stuck = begin(undo, stack, "in-a-loop")
        # It waits for the one thread, and for nothing else.
        assert fetch(f"{stack.url}/thread").body == pid + b" True"
        assert stuck.read_to_end().startswith(ANSWERED)
        stack.wait_for_event(event_with(event="thread is free again", path="/in-a-loop"))
        assert fetch(f"{stack.url}/thread").body == pid + b" True"
        assert stack.stop() == 0
        names = {event["event"] for event in stack.log_events()}

    assert OVERDUE in names
    assert not names & {LOST, BROKEN_OFF, INTERRUPTED, "recycling worker", "application failed"}


# --- Interrupted from outside ---------------------------------------------------------------------

INTERRUPTED = "exception was raised in a thread from outside"


@pytest.mark.parametrize("workers", ["0", "1"], ids=["unsupervised", "forked"])
def test_idle_thread_that_is_interrupted_goes_on(serve_alone: ServeAlone, workers: str):
    """What it was just given may be lost, and so the worker is replaced."""
    with (
        serve_alone(
            APP,
            serve_args=("--workers", workers, "--threads", "1"),
            graceful_timeout_seconds=0.2,
        ) as stack,
        ExitStack() as undo,
    ):
        pid = int(fetch(f"{stack.url}/quick").body)
        os.kill(pid, signal.SIGUSR2)
        stack.wait_for_event(event_with(event="app: interrupts"))
        undo.enter_context(RawHttp(f"{stack.url}/quick"))
        event = stack.wait_for_event(event_with(event=INTERRUPTED))
        if workers == "0":
            assert stack.bridge.wait_ended(PATIENCE_SECONDS) == 1
        else:
            assert fetch(f"{stack.url}/quick").seen == 200
            told = stack.wait_for_event(event_with(event="recycling worker", worker=pid))
            assert told["reason"] == "a thread was interrupted"

    assert event["level"] == "error"
    assert str(event["detail"]).startswith("TimeoutError")
    assert event["hint"]
