"""A WSGI thread over its deadline is interrupted; one that comes back serves on, and no other request notices."""

from __future__ import annotations

import os
import queue
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.bridge import Bridge, on_each_socket, running
from tests.gil import looks_at_frames
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import ask, connect, packet, read_answer, read_until
from uwsgibridge import RequestInterrupted
from uwsgibridge.application.forked_child import exit_if_copy
from uwsgibridge.client import ping
from uwsgibridge.errors import WorkerUnfit
from uwsgibridge.hosts.wsgi import exchange as wsgi_exchange
from uwsgibridge.hosts.wsgi.exchange import WsgiExchange
from uwsgibridge.hosts.wsgi.interruption import Interruption
from uwsgibridge.telemetry.access_log import AccessLog
from uwsgibridge.telemetry.reporting import Reporter

pytestmark = looks_at_frames

LIMIT_SECONDS = 0.1

# For a thread that is to come back, on a busy machine; and for one that does not.
LONG_SECONDS = 2 * PATIENCE_SECONDS
SHORT_SECONDS = 0.2

TEXT = [("Content-Type", "text/plain")]

OVERDUE = "request took too long"
FREE = "thread is free again"
SHOWN = "Request GET /hangs"

Handler = Callable[["Application", dict[str, Any], Any], Iterable[bytes]]


class Application:
    """Hangs in one way, and tells at ``/quick`` which thread it is called by.

    Attributes:
        met: what was raised in what hangs, or a word of it.
        gate: lets go what is not interrupted.
    """

    def __init__(self, hang: Handler) -> None:
        self._hang = hang
        self.met: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.gate = threading.Event()
        self.hanging = threading.Event()
        self.ident = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/quick":
            start_response("200 OK", TEXT)
            return [str(threading.get_ident()).encode()]
        self.ident = threading.get_ident()
        self.hanging.set()
        return self._hang(self, environ, start_response)

    def next_met(self) -> object:
        return self.met.get(timeout=PATIENCE_SECONDS)


@pytest.fixture(autouse=True)
def threads_have_ended() -> Iterator[None]:
    """Wait for those that were lost: they come back some time after the bridge has ended."""
    yield
    deadline = time.monotonic() + PATIENCE_SECONDS
    while alive := [it for it in threading.enumerate() if it.name.startswith("wsgi-")]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.005)


Clock = dict[str, Callable[[WsgiExchange], bool]]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Tell by its path from when on a request is over its time, however busy the machine is."""
    used_seconds = WsgiExchange.used_seconds
    counts: Clock = {
        "/quick": lambda _: False,
        "/hangs-in-the-body": lambda exchange: exchange._response.is_head_sent,
        "/hangs-in-close": lambda exchange: exchange._ended,
    }

    def used(exchange: WsgiExchange, now: float) -> float:
        is_counted = counts.get(exchange.request.path, lambda _: True)(exchange)
        return used_seconds(exchange, now) if is_counted else 0.0

    monkeypatch.setattr(WsgiExchange, "used_seconds", used)
    return counts


def settle(bridge: Bridge) -> None:
    """Wait until no request holds a place any more, which is some time after its client has the answer."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while bridge.figures().in_flight:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    # The thread of a request that was given up may free its place before the listener's thread has told of it. That
    # thread answers a ping when it has.
    ping(bridge.address, timeout_seconds=PATIENCE_SECONDS)


def limits(interrupt_seconds: float = LONG_SECONDS, **others: Any) -> dict[str, Any]:
    return {
        "request_timeout_seconds": LIMIT_SECONDS,
        "request_interrupt_seconds": interrupt_seconds,
        "threads": 1,
        **others,
    }


# --- Those that come back -------------------------------------------------------------------------


def computes(app: Application, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    try:
        while True:
            pass
    finally:
        app.met.put("finally")


def sleeps(app: Application, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    try:
        while True:
            time.sleep(0.01)
    finally:
        app.met.put("finally")


def catches(app: Application, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    try:
        while True:
            try:
                time.sleep(0.01)
            except Exception as error:
                app.met.put(error)
    finally:
        app.met.put("finally")


def chains(app: Application, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    try:
        return sleeps(app, environ, start_response)
    except BaseException as error:
        raise ValueError("of the application") from error


def reads(app: Application, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Asks for more than there is, for ever."""
    try:
        while True:
            environ["wsgi.input"].read(1)
    finally:
        app.met.put("finally")


def answers(app: Application, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Makes an answer of it, which goes nowhere."""
    try:
        return sleeps(app, environ, start_response)
    except RequestInterrupted:
        start_response("200 OK", TEXT)
        return [b"late"]


@on_each_socket
@pytest.mark.parametrize("hang", [computes, sleeps, catches, chains, reads, answers])
def test_thread_comes_back_and_serves_on(family: str, hang: Handler):
    app = Application(hang)
    with running(app, family, **limits()) as bridge, connect(bridge.address) as connection:
        connection.sendall(packet("/hangs", method="POST", content_length=4))
        assert app.hanging.wait(PATIENCE_SECONDS)
        connection.sendall(b"body")
        # What comes meanwhile waits for this one thread.
        with ThreadPoolExecutor(1) as pool:
            waits = pool.submit(bridge.ask, "/quick")
            answer = read_answer(connection)
            assert waits.result(PATIENCE_SECONDS).body == str(app.ident).encode()
        free = bridge.events.wait(event=FREE)
        assert [bridge.ask("/quick").body for _ in range(3)] == [str(app.ident).encode()] * 3

    assert answer.seen == 504
    assert app.next_met() == "finally"
    assert app.met.empty()
    assert (free["level"], free["path"], free["thread"]) == ("info", "/hangs", "wsgi-1")
    assert 0 <= free["seconds"] < LONG_SECONDS
    (overdue,) = bridge.events.find(level="error")
    assert (overdue["event"], overdue["outcome"]) == (OVERDUE, "answered 504")
    assert bridge.events.find(level="warning") == []
    assert bridge.counters.app_errors == 0


class Closing:
    def __init__(self, app: Application, items: Iterable[bytes], *, hangs: bool = False) -> None:
        self._app, self._items, self._hangs = app, items, hangs

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._items)

    def close(self) -> None:
        try:
            while self._hangs:
                time.sleep(0.01)
        finally:
            self._app.met.put("closed")


def items(app: Application) -> Iterator[bytes]:
    yield b"begun"
    try:
        while True:
            time.sleep(0.01)
    finally:
        app.met.put("finally")


def in_the_body(app: Application, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return Closing(app, items(app))


def in_close(app: Application, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return Closing(app, [b"begun"], hangs=True)


@on_each_socket
@pytest.mark.parametrize(
    ("hang", "path", "met", "outcome"),
    [
        (in_the_body, "/hangs-in-the-body", ["finally", "closed"], "connection broken"),
        (in_close, "/hangs-in-close", ["closed"], "the answer was complete"),
    ],
)
def test_generators_and_close_are_ended(
    family: str, hang: Handler, path: str, met: list[str], outcome: str
):
    app = Application(hang)
    with running(app, family, **limits()) as bridge, connect(bridge.address) as connection:
        connection.sendall(packet(path))
        read_until(connection, b"begun")
        bridge.events.wait(event=FREE)
        assert bridge.ask("/quick").body == str(app.ident).encode()

    assert [app.next_met() for _ in met] == met
    assert app.met.empty()
    (overdue,) = bridge.events.find(level="error")
    assert overdue["outcome"] == outcome


def in_close_after_its_end(
    app: Application, environ: dict[str, Any], start_response: Any
) -> Iterable[bytes]:
    """Ends its body by itself, after its deadline, and hangs again."""

    def body() -> Iterator[bytes]:
        yield b"whole"
        app.gate.wait(PATIENCE_SECONDS)

    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    return Closing(app, body(), hangs=True)


def test_thread_that_had_come_back_is_interrupted_in_close():
    app = Application(in_close_after_its_end)
    with running(app, "unix", **limits()) as bridge, connect(bridge.address) as connection:
        connection.sendall(packet("/hangs-in-the-body"))
        bridge.events.wait(event=OVERDUE)
        app.gate.set()
        bridge.events.wait(event=FREE)
        assert bridge.ask("/quick").body == str(app.ident).encode()
    assert app.next_met() == "closed"
    assert app.met.empty()


# --- Those that are lost --------------------------------------------------------------------------


def holds_on(app: Application, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    while not app.gate.is_set():
        try:
            time.sleep(0.005)
        except BaseException as error:
            app.met.put(type(error))
    return []


def in_c(app: Application, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """In one call that Python can't interrupt."""
    reader, writer = os.pipe()

    def write() -> None:
        app.gate.wait(PATIENCE_SECONDS)
        os.write(writer, b"1")

    opener = threading.Thread(target=write)
    opener.start()
    try:
        os.read(reader, 1)
        return []
    except BaseException as error:
        app.met.put(type(error))
        raise
    finally:
        opener.join(PATIENCE_SECONDS)
        os.close(reader)
        os.close(writer)


def at_a_lock(app: Application, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Where an exception would leave it locked, since it comes when the lock has been taken."""
    lock = threading.Lock()
    lock.acquire()

    def release() -> None:
        app.gate.wait(PATIENCE_SECONDS)
        lock.release()

    opener = threading.Thread(target=release)
    opener.start()
    lock.acquire()
    opener.join(PATIENCE_SECONDS)
    app.met.put("nothing")
    return []


def in_threading(app: Application, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Where an exception would leave a lock in a state that nobody knows."""
    app.gate.wait(PATIENCE_SECONDS)
    app.met.put("nothing")
    return []


def in_an_import(app: Application, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    import imported_by_a_request  # type: ignore[import-not-found] # made by the test

    app.met.put(imported_by_a_request.STATE)
    return []


def lose(app: Application, interrupt_seconds: float, let_go: Callable[[], object]) -> Bridge:
    """Lose one of two threads, and have the bridge end because of that."""

    def serve() -> None:
        with running(app, "unix", **limits(interrupt_seconds, threads=2)) as bridge:
            bridges.append(bridge)
            assert bridge.ask("/hangs").seen == 504
            bridge.events.wait(event="stopping to be started again")
            assert bridge.events.find(event=FREE) == []
            let_go()
            bridge.wait_stopped()

    bridges: list[Bridge] = []
    with pytest.raises(WorkerUnfit, match="a thread is lost"):
        serve()
    return bridges[0]


@pytest.mark.parametrize(
    ("hang", "met"),
    [
        (holds_on, RequestInterrupted),
        (in_c, RequestInterrupted),
        (at_a_lock, "nothing"),
        (in_threading, "nothing"),
        (in_an_import, "whole"),
    ],
)
def test_thread_that_does_not_come_back_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hang: Handler, met: object
):
    app = Application(hang)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "imported_by_a_request", raising=False)
    # A copy of the gate's state: a module can't get at this test.
    open_sign = tmp_path / "open"
    (tmp_path / "imported_by_a_request.py").write_text(
        "import os, time\n"
        f"while not os.path.exists({str(open_sign)!r}):\n"
        "    time.sleep(0.005)\n"
        "STATE = 'whole'\n"
    )

    def let_go() -> None:
        app.gate.set()
        open_sign.touch()
        assert app.next_met() == met

    bridge = lose(app, SHORT_SECONDS, let_go)
    assert app.met.empty()
    (overdue,) = bridge.events.find(event=OVERDUE)
    assert overdue["outcome"] == "answered 504"


def test_without_interruption_it_is_lost_at_once():
    app = Application(holds_on)
    bridge = lose(app, 0, app.gate.set)
    assert app.met.empty()
    assert bridge.events.find(event=FREE) == []


# --- Meanwhile ------------------------------------------------------------------------------------


def hang_and_wait(bridge: Bridge, app: Application) -> None:
    """Have a request be interrupted that holds on all the same."""
    assert bridge.ask("/hangs").seen == 504
    assert app.next_met() is RequestInterrupted


def test_what_is_interrupted_holds_no_place_and_is_shown():
    app = Application(holds_on)
    with running(app, "unix", **limits()) as bridge:
        hang_and_wait(bridge, app)
        assert bridge.figures().in_flight == 0
        assert SHOWN in bridge.stacks().splitlines()
        app.gate.set()
        bridge.events.wait(event=FREE)
        assert SHOWN not in bridge.stacks().splitlines()
        assert bridge.ask("/quick").body == str(app.ident).encode()


def test_stop_does_not_wait_for_what_is_interrupted():
    app = Application(holds_on)
    with running(app, "unix", **limits()) as bridge:
        hang_and_wait(bridge, app)
        bridge.begin_stop()
        bridge.wait_stopped()
        app.gate.set()

    assert [event["event"] for event in bridge.events.find(level="error")] == [OVERDUE]


def test_what_waits_for_an_interrupted_thread_is_answered_at_the_end_of_a_stop():
    app = Application(holds_on)
    with (
        running(app, "unix", **limits(graceful_timeout_seconds=SHORT_SECONDS)) as bridge,
        ThreadPoolExecutor(1) as pool,
    ):
        hang_and_wait(bridge, app)
        with connect(bridge.address) as connection:
            connection.sendall(packet("/quick"))
            answer = pool.submit(read_answer, connection)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not bridge.figures().in_flight:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            bridge.begin_stop()
            assert answer.result(PATIENCE_SECONDS).seen == 503
        bridge.wait_stopped()
        app.gate.set()


# --- Where nobody seeks to raise it ----------------------------------------------------------------


@pytest.mark.parametrize("place", ["at-the-end", "when-it-holds-off"])
def test_exception_that_arrives_in_our_own_code_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, place: str
):
    """The thread may have gone on between the look at where it is, and the call that raises."""
    hold_off = Interruption.hold_off
    slow: list[int] = []
    hangs = threading.Event()
    monkeypatch.setattr(Interruption, "_may_be_raised", lambda _: hangs.is_set())

    def hang_once() -> None:
        if threading.get_ident() in slow:
            slow.clear()
            hangs.set()
            while True:
                time.sleep(0.005)

    def at_the_end() -> None:
        hang_once()
        exit_if_copy()

    def when_it_holds_off(interruption: Interruption) -> None:
        hang_once()
        hold_off(interruption)

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        if environ["PATH_INFO"] == "/hangs":
            slow.append(threading.get_ident())
            if place == "when-it-holds-off":
                bridge.events.wait(event=OVERDUE)
        # Two items are no plain answer: the end of such an exchange is Python's, with the accelerator, too.
        return [str(threading.get_ident()).encode(), b""]

    if place == "at-the-end":
        monkeypatch.setattr(wsgi_exchange, "exit_if_copy", at_the_end)
        clock["/hangs"] = lambda _: hangs.is_set()
    else:
        monkeypatch.setattr(Interruption, "hold_off", when_it_holds_off)
    with running(app, "unix", **limits()) as bridge:
        ident = bridge.ask("/quick").body
        with connect(bridge.address) as connection:
            connection.sendall(packet("/hangs"))
            bridge.events.wait(event=FREE)
        assert [bridge.ask("/quick").body for _ in range(3)] == [ident] * 3
        settle(bridge)

    assert [event["event"] for event in bridge.events.find(level="error")] == [OVERDUE]
    assert bridge.events.find(level="warning") == []


@on_each_socket
def test_connection_that_was_handed_over_is_not_broken(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, family: str
):
    """It is open for as long as its client sends, so that the client reads its answer."""
    hangs = threading.Event()
    monkeypatch.setattr(Interruption, "_may_be_raised", lambda _: hangs.is_set())

    def hang() -> None:
        hangs.set()
        while True:
            time.sleep(0.005)

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        return [b"whole"]

    monkeypatch.setattr(wsgi_exchange, "exit_if_copy", hang)
    clock["/hangs"] = lambda _: hangs.is_set()
    with running(app, family, **limits()) as bridge, connect(bridge.address) as connection:
        connection.sendall(packet("/hangs", method="POST", content_length=2))
        read_until(connection, b"whole")
        bridge.events.wait(event=FREE)
        connection.sendall(b"12")
        assert connection.recv(1) == b""

    (overdue,) = bridge.events.find(level="error")
    assert overdue["outcome"] == "the answer was complete"


# --- The access log -------------------------------------------------------------------------------


def test_access_log_has_one_line_of_what_its_thread_ends_at_its_deadline(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
):
    """Also where its deadline comes while its thread writes the line."""
    logged: list[str] = []
    gate, is_writing = threading.Event(), threading.Event()
    clock["/quick"] = lambda _: is_writing.is_set()

    def log_slowly(_: Reporter, request: Any, **__: object) -> None:
        logged.append(request.path)
        if request.path == "/quick":
            is_writing.set()
        if request.path == "/quick" and threading.current_thread().name.startswith("wsgi-"):
            assert gate.wait(PATIENCE_SECONDS)

    monkeypatch.setattr(Reporter, "log_access", log_slowly)
    monkeypatch.setattr(AccessLog, "sent_writer", None)
    app = Application(holds_on)
    with running(app, "unix", **limits(threads=2, access_log=True)) as bridge:
        assert bridge.ask("/quick").seen == 200
        # What began later is over its time: so the first one was looked at, too.
        assert bridge.ask("/hangs").seen == 504
        overdue = bridge.events.wait(event=OVERDUE)
        gate.set()
        app.gate.set()
        bridge.events.wait(event=FREE)
        settle(bridge)

    assert overdue["path"] == "/hangs"
    assert sorted(logged) == ["/hangs", "/quick"]
    assert len(bridge.events.find(level="error")) == 1


# --- Nobody else ----------------------------------------------------------------------------------

CLIENTS = 8
REQUESTS = 30
DEADLINE_SECONDS = 0.05
SPREAD_SECONDS = 0.01
LATE_SECONDS = 0.01


class Hammered:
    """Takes about as long as it may, and remembers who was interrupted."""

    def __init__(self) -> None:
        self.interrupted: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        began = time.monotonic()
        path = environ["PATH_INFO"]
        try:
            until = began + float(environ["QUERY_STRING"])
            while time.monotonic() < until:
                if path.endswith("s"):
                    time.sleep(0.0005)
        except RequestInterrupted:
            self.interrupted.append(path)
            raise
        start_response("200 OK", TEXT)
        return [path.encode()]


# What the collector calls may meet it, too.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("delay", ["at-once", "late"])
def test_no_other_request_is_interrupted(monkeypatch: pytest.MonkeyPatch, delay: str):
    """Also where the thread goes on between the look at where it is, and what is raised."""
    chance = random.Random(0)
    if delay == "late":
        may_be_raised = Interruption._may_be_raised

        def look_and_wait(interruption: Interruption) -> bool:
            if not may_be_raised(interruption):
                return False
            time.sleep(chance.uniform(0, LATE_SECONDS))
            return True

        monkeypatch.setattr(Interruption, "_may_be_raised", look_and_wait)
    logged: list[str] = []
    monkeypatch.setattr(
        Reporter, "log_access", lambda _, request, **__: logged.append(request.path)
    )
    monkeypatch.setattr(AccessLog, "sent_writer", None)
    app = Hammered()
    spread = [chance.uniform(-SPREAD_SECONDS, SPREAD_SECONDS) for _ in range(CLIENTS * REQUESTS)]

    def hammer(client: int) -> dict[str, tuple[int | str, bytes]]:
        seen: dict[str, tuple[int | str, bytes]] = {}
        for number in range(client, len(spread), CLIENTS):
            path = f"/{number}{'cs'[number // CLIENTS % 2]}"
            seconds = str(DEADLINE_SECONDS + spread[number])
            try:
                answer = ask(bridge.address, path, QUERY_STRING=seconds)
            except ConnectionResetError:
                seen[path] = ("broken", b"")
            else:
                seen[path] = (answer.seen, answer.body)
        return seen

    with (
        running(
            app,
            "unix",
            threads=4,
            request_timeout_seconds=DEADLINE_SECONDS,
            request_interrupt_seconds=LONG_SECONDS,
            access_log=True,
        ) as bridge,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        seen = {path: it for part in pool.map(hammer, range(CLIENTS)) for path, it in part.items()}
        settle(bridge)
        # From here on, none is told any more.
        overdue = bridge.events.find(event=OVERDUE)
        bridge.events.wait_many(len(overdue), event=FREE)

    outcomes = {event["path"]: event["outcome"] for event in overdue}
    assert len(seen) == len(spread)
    assert 0 < len(outcomes) == len(overdue) < len(seen), (
        "both kinds are there, and each is told once"
    )
    assert set(app.interrupted) <= set(outcomes)
    assert max(Counter(app.interrupted).values()) == 1
    # One that was broken may have left as a whole just before.
    possible: dict[str, tuple[int | str, ...]] = {
        "answered 504": (504,),
        "connection broken": ("broken", 0, 200),
        "the answer was complete": (200,),
    }
    for path, (status, body) in seen.items():
        assert status in possible[outcomes.get(path, "the answer was complete")], (
            f"{path}: {bridge.events.text()}"
        )
        if status == 200:
            assert body == path.encode()
    # Neither another event, nor a thread more or less.
    assert {event["event"] for event in bridge.events.find(level="error")} == {OVERDUE}
    assert bridge.events.find(level="warning") == []
    assert len(bridge.events.find(event=FREE)) == len(overdue)
    assert bridge.events.other_text() == ""
    assert Counter(logged) == Counter(seen.keys())
