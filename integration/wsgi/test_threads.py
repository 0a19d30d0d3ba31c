"""Threads: how many requests run at once, what is left of one for the next, and what becomes of a stuck one."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from integration.connecting import connect
from integration.wsgi.conftest import assert_no_complaints
from integration.wsgi.fetching import PATIENCE_SECONDS, fetch
from integration.wsgi.raw_http import RawHttp
from uwsgibridge.client import ping
from uwsgibridge.testing import LocalStack, Site, event_with
from uwsgibridge.testing.log_stream import LogEvent

Serve = Callable[..., LocalStack]

# A body is handed on while it arrives, an answer while it is made.
UNBUFFERED = Site(request_buffering=False, response_buffering=False)


@pytest.fixture(scope="module")
def eight(serve: Serve) -> Iterator[LocalStack]:
    stack = serve("threads:application", serve_args=("--threads", "8"), site=UNBUFFERED)
    yield stack
    assert_no_complaints(stack)


@pytest.fixture(scope="module")
def single(serve: Serve) -> Iterator[LocalStack]:
    stack = serve(
        "threads:application",
        serve_args=("--threads", "1", "--body-timeout-seconds", "0.2"),
        site=UNBUFFERED,
    )
    yield stack
    assert_no_complaints(stack)


# --- How many at once -----------------------------------------------------------------------------


def keep_asking(url: str, count: int) -> None:
    where = urlsplit(url)
    assert where.hostname
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=PATIENCE_SECONDS)
    for _ in range(count):
        connection.request("GET", "/sleep")
        with connection.getresponse() as response:
            assert (response.status, response.read()) == (200, b"slept")
    connection.close()


def measure(stack: LocalStack) -> tuple[float, float]:
    """Ask on 16 connections.

    Returns:
        Requests a second, and the slowest of the pings meanwhile, in seconds.
    """
    connections, each = 16, 10
    pings = []
    over = threading.Event()
    with ThreadPoolExecutor(connections) as pool:
        began = time.perf_counter()
        asking = [pool.submit(keep_asking, stack.url, each) for _ in range(connections)]
        asking[-1].add_done_callback(lambda _: over.set())
        while not over.wait(0.05):
            pings.append(ping(stack.address))
        for one in asking:
            one.result()
        elapsed = time.perf_counter() - began
    return connections * each / elapsed, max(pings)


def test_eight_threads_serve_75_requests_a_second_and_pings_meanwhile(eight: LocalStack):
    """Each request sleeps for 100 ms, so 80 is the most that eight threads can do."""
    seen = []
    # Others may use this machine at the same time: what it can do is what counts.
    for _ in range(10):
        seen.append(measure(eight))
        if seen[-1][0] >= 75 and seen[-1][1] < 0.01:
            return
    raise AssertionError(f"requests a second, and seconds of the slowest ping: {seen}")


def test_pings_are_answered_while_every_thread_is_busy(eight: LocalStack):
    before = len(eight.log_events())
    with ExitStack() as undo:
        # Each holds a thread until its byte comes.
        busy = [
            undo.enter_context(RawHttp(f"{eight.url}/read", method="POST", content_length=1))
            for _ in range(8)
        ]
        for number in range(8):
            eight.wait_for_event(event_with(line="reading"), since=before + number)
        waiting = undo.enter_context(RawHttp(f"{eight.url}/thread"))
        # Others may use this machine at the same time: one of three rounds counts.
        assert min(max(ping(eight.address) for _ in range(20)) for _ in range(3)) < 0.01
        for one in busy:
            one.send(b"x")
            assert b"read 1\r\n" in one.read_to_end()
        waiting.read_until(b'"name": "wsgi-')


def test_every_thread_has_its_name(eight: LocalStack):
    with ThreadPoolExecutor(8) as pool:
        names = {one.body for one in pool.map(fetch, [f"{eight.url}/thread-of-eight"] * 8)}
    assert names == {b"wsgi-%d" % number for number in range(1, 9)}


@pytest.mark.parametrize("threads", [1, 8])
def test_environ_says_whether_there_are_several(
    eight: LocalStack, single: LocalStack, threads: int
):
    stack = single if threads == 1 else eight
    assert fetch(f"{stack.url}/thread").json()["environ"] == {
        "multithread": threads > 1,
        "multiprocess": False,
        "run_once": False,
    }


def test_environ_says_whether_there_are_several_processes(serve: Serve):
    stack = serve("threads:application", serve_args=("--threads", "1", "--workers", "2"))
    facts = fetch(f"{stack.url}/thread").json()["environ"]
    assert facts == {"multithread": False, "multiprocess": True, "run_once": False}


# --- What is left of one request for the next -----------------------------------------------------


def test_context_is_new_for_each_request(single: LocalStack):
    first, second = (fetch(f"{single.url}/thread").json() for _ in range(2))
    assert first["context"] == second["context"] == ["unset", 28]
    # It was the same thread all the same.
    assert (first["name"], first["ident"]) == (second["name"], second["ident"])
    assert first["name"] == "wsgi-1"


def test_context_is_one_for_the_whole_request(single: LocalStack):
    assert fetch(f"{single.url}/context-of-the-body").body == b"in the call, in the body"


@pytest.mark.parametrize(
    ("path", "says"), [("/exit", "SystemExit: 7"), ("/interrupt", "KeyboardInterrupt")]
)
def test_thread_outlives_what_would_end_a_program(single: LocalStack, path: str, says: str):
    ident = fetch(f"{single.url}/thread").json()["ident"]
    before = len(single.log_events())
    for _ in range(3):
        assert fetch(single.url + path).status == 500
    assert fetch(f"{single.url}/thread").json()["ident"] == ident
    failed = event_with(event="application failed", path=path, outcome="answered 500")
    told: list[str] = []

    def is_third(event: LogEvent) -> bool:
        if failed(event):
            told.append(str(event["exception"]).splitlines()[-1])
        return len(told) == 3

    single.wait_for_event(is_third, since=before)
    assert told == [says] * 3


def test_default_timeout_of_the_application_is_not_the_bridges(serve: Serve):
    """`socket.setdefaulttimeout` is for the whole process; the bridge has deadlines of its own."""
    stack = serve(
        "threads:application",
        serve_args=("--threads", "1", "--body-timeout-seconds", "0.2", "--log-level", "debug"),
        site=UNBUFFERED,
    )
    assert fetch(f"{stack.url}/set-default-timeout").body == b"set"
    # A connection whose packet is not there yet must not hold the listener.
    with connect(stack.address) as idle:
        idle.sendall(b"\0")
        with connect(stack.address):
            assert ping(stack.address, timeout_seconds=PATIENCE_SECONDS) < 5
    # A body that stalls is told by the bridge's own deadline, and as what it is.
    before = len(stack.log_events())
    with RawHttp(f"{stack.url}/read", method="POST", content_length=10) as stalled:
        stalled.send(b"1")
        stack.wait_for_event(
            event_with(event="request body did not arrive in time"),
            since=before,
            timeout_seconds=PATIENCE_SECONDS,
        )
    # And what an application sends is sent.
    assert len(fetch(f"{stack.url}/large").body) == 5_000_000


# --- A request over its time ----------------------------------------------------------------------

LIMIT_SECONDS = 1.0


@pytest.mark.parametrize("head_sent", [False, True], ids=["before-the-head", "in-the-body"])
def test_stuck_request_is_given_up_and_the_worker_replaced(
    serve_alone: Callable[..., LocalStack], head_sent: bool
):
    path = "/hang-in-the-body" if head_sent else "/hang"
    with serve_alone(
        "threads:application",
        serve_args=("--threads", "3", "--request-timeout-seconds", str(LIMIT_SECONDS)),
        site=UNBUFFERED,
    ) as stack:
        url = stack.url
        with (
            RawHttp(f"{url}{path}?gate=1") as stuck,
            ThreadPoolExecutor(1) as pool,
        ):
            answer = pool.submit(stuck.read_to_end)
            # The other one must be younger, so that its own time is not over as well.
            threading.Event().wait(LIMIT_SECONDS / 2)
            with RawHttp(
                f"{url}/open-gate-when-read?gate=1", method="POST", content_length=2
            ) as other:
                other.send(b"1")
                event = stack.wait_for_event(event_with(event="request took too long"))
                seen = answer.result(PATIENCE_SECONDS)
                # Nobody is let in any more, what runs is let out.
                stack.wait_for_event(event_with(event="stopping to be started again"))
                other.send(b"2")
                assert b"read 2\r\n" in other.read_to_end()
        assert stack.bridge.wait_ended(PATIENCE_SECONDS) == 1
        log = stack.bridge_log

    assert event["level"] == "error"
    assert event["path"] == path
    assert event["option"] == "--request-timeout-seconds"
    assert event["seconds"] == pytest.approx(LIMIT_SECONDS, abs=0.5)
    assert str(event["thread"]).startswith("wsgi-")
    # The stack tells where the thread hangs, from the application's first frame on.
    stack_lines = str(event["stack"]).splitlines()
    assert "in hang_at_a_gate" in str(event["stack"])
    assert "/uwsgibridge/" not in stack_lines[0]
    if head_sent:
        assert event["outcome"] == "connection broken"
        assert seen.startswith(b"HTTP/1.1 200 OK")
        assert not seen.endswith(b"0\r\n\r\n"), "the end of a whole answer in chunks"
    else:
        assert event["outcome"] == "answered 504"
        assert seen.startswith(b"HTTP/1.1 504 ")
        assert seen.endswith(b"The application did not answer in time.\n")
    # What the thread has done afterwards, when it was let go, is nobody's failure.
    events = [one["event"] for one in stack.log_events()]
    assert "application failed" not in events
    assert "requests were broken off: they did not end in time" not in events
    assert "stopped: a thread is lost" in log


def test_request_within_its_time_is_left_alone(serve_alone: Callable[..., LocalStack]):
    with serve_alone(
        "threads:application", serve_args=("--threads", "1", "--request-timeout-seconds", "5")
    ) as stack:
        # Together they take longer than one of them may.
        for _ in range(3):
            assert fetch(f"{stack.url}/sleep").body == b"slept"
        said = {"worker started", "started", "listening"}
        assert {event["event"] for event in stack.log_events()} == said
        assert stack.stop() == 0
