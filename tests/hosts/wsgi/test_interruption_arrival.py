"""The exception of an interrupted thread: wherever it arrives in our own code, no later request meets it."""

from __future__ import annotations

import contextlib
import dis
import queue
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

import uwsgibridge
from tests.bridge import running
from tests.gil import looks_at_frames
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import ask
from uwsgibridge import RequestInterrupted
from uwsgibridge.hosts.wsgi import host as wsgi
from uwsgibridge.hosts.wsgi import interruption as interruption_module
from uwsgibridge.hosts.wsgi import serving
from uwsgibridge.hosts.wsgi.exchange import WsgiExchange
from uwsgibridge.hosts.wsgi.host import WsgiHost
from uwsgibridge.hosts.wsgi.interruption import Interruption
from uwsgibridge.hosts.wsgi.running import Running, RunningRequests
from uwsgibridge.hosts.wsgi.serving import PythonThread

pytestmark = looks_at_frames

TEXT = [("Content-Type", "text/plain")]

# --- One thread and one watcher -------------------------------------------------------------------


def test_nothing_is_raised_in_a_thread_that_has_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Interruption, "_may_be_raised", lambda _: True)
    told: queue.SimpleQueue[object] = queue.SimpleQueue()
    go_on = threading.Event()

    def work() -> None:
        interruption = Interruption(threading.current_thread(), ())
        try:
            interruption.finish()
            told.put(interruption)
            assert go_on.wait(PATIENCE_SECONDS)
        except BaseException as error:
            told.put(error)
        told.put("over")

    thread = threading.Thread(target=work)
    thread.start()
    interruption = told.get(timeout=PATIENCE_SECONDS)
    assert isinstance(interruption, Interruption)
    assert not interruption.attempt()
    go_on.set()
    assert told.get(timeout=PATIENCE_SECONDS) == "over"
    thread.join(PATIENCE_SECONDS)


def test_held_off_until_the_application_is_called_again(monkeypatch: pytest.MonkeyPatch):
    raised: list[int] = []

    def raise_in(ident: int, _: type[BaseException]) -> bool:
        raised.append(ident)
        return True

    monkeypatch.setattr(Interruption, "_may_be_raised", lambda _: True)
    monkeypatch.setattr(interruption_module, "_raise_in", raise_in)
    interruption = Interruption(threading.current_thread(), ())
    interruption.hold_off()
    assert not interruption.attempt()
    interruption.go_on()
    assert raised == []
    for _ in range(2):
        assert interruption.attempt()
    assert raised == [threading.get_ident()]


def test_thread_waits_for_an_attempt_that_has_begun(monkeypatch: pytest.MonkeyPatch):
    begun, go_on = threading.Event(), threading.Event()
    over: list[str] = []

    def look(_: Interruption) -> bool:
        begun.set()
        assert go_on.wait(PATIENCE_SECONDS)
        over.append("attempt")
        return False

    monkeypatch.setattr(Interruption, "_may_be_raised", look)
    slept = threading.Event()
    monkeypatch.setattr(interruption_module, "sleep", lambda _: slept.set())

    def leave() -> None:
        interruption.finish()
        over.append("left")

    interruption = Interruption(threading.current_thread(), ())
    watcher, thread = threading.Thread(target=interruption.attempt), threading.Thread(target=leave)
    watcher.start()
    assert begun.wait(PATIENCE_SECONDS)
    thread.start()
    assert slept.wait(PATIENCE_SECONDS)
    go_on.set()
    for it in (watcher, thread):
        it.join(PATIENCE_SECONDS)
    assert over == ["attempt", "left"]


# --- Locks ----------------------------------------------------------------------------------------


def by_with(lock: threading.Lock) -> None:
    with lock:
        time.sleep(0)


def by_acquire(lock: threading.Lock) -> None:
    lock.acquire()
    try:
        time.sleep(0)
    finally:
        lock.release()


def by_acquire_in_time(lock: threading.Lock) -> None:
    if lock.acquire(
        timeout=PATIENCE_SECONDS,
    ):
        lock.release()


@pytest.mark.parametrize("wait", [by_with, by_acquire, by_acquire_in_time])
def test_no_lock_is_left_locked_by_what_waited_for_it(wait: Callable[[threading.Lock], None]):
    """All that comes later would wait for it."""
    lock = threading.Lock()
    interruptions: list[Interruption] = []
    # As one of ours: what is called by it is an application's.
    names: dict[str, Any] = {}
    exec(compile("def call(wait, lock):\n    wait(lock)\n", wsgi.__file__, "exec"), names)
    call = names["call"]

    def work() -> None:
        interruptions.append(Interruption(threading.current_thread(), {call.__code__}))
        with contextlib.suppress(RequestInterrupted):
            call(wait, lock)

    def is_waiting() -> bool:
        frame = sys._current_frames().get(thread.ident or 0)
        return frame is not None and frame.f_code is wait.__code__

    with lock:
        thread = threading.Thread(target=work)
        thread.start()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_waiting():
            assert time.monotonic() < deadline
        time.sleep(0.01)  # it may be one step before that
        # Up to Python 3.13, a `with` has begun before the exception comes.
        is_safe = wait is by_with and sys.version_info < (3, 14)
        assert interruptions[0].attempt() == is_safe
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    assert not lock.locked()


def test_thread_that_met_it_already_leaves_as_well(monkeypatch: pytest.MonkeyPatch):
    told: queue.SimpleQueue[object] = queue.SimpleQueue()

    def work() -> None:
        interruption = Interruption(threading.current_thread(), {work.__code__})
        told.put(interruption)
        try:
            for _ in range(int(PATIENCE_SECONDS * 1000)):
                time.sleep(0.001)
        except RequestInterrupted as error:
            told.put(str(error))
        interruption.finish()
        interruption.finish()
        told.put(interruption.finished_at)

    monkeypatch.setattr(Interruption, "_may_be_raised", lambda _: True)
    thread = threading.Thread(target=work)
    thread.start()
    interruption = told.get(timeout=PATIENCE_SECONDS)
    assert isinstance(interruption, Interruption)
    assert interruption.attempt()
    assert str(told.get(timeout=PATIENCE_SECONDS)).startswith("it took too long")
    assert isinstance(told.get(timeout=PATIENCE_SECONDS), float)
    thread.join(PATIENCE_SECONDS)


def test_what_is_on_its_way_arrives_before_the_thread_has_left(monkeypatch: pytest.MonkeyPatch):
    """Nothing says that Python raises it at the next step."""
    raise_in = interruption_module._raise_in
    raised: list[bool] = []

    def raise_late(ident: int, kind: type[BaseException]) -> bool:
        raised.append(ident == threading.get_ident())
        return len(raised) == 1 or raise_in(ident, kind)

    monkeypatch.setattr(Interruption, "_may_be_raised", lambda _: True)
    monkeypatch.setattr(interruption_module, "_raise_in", raise_late)
    interruption = Interruption(threading.current_thread(), ())
    assert interruption.attempt()
    interruption.finish()
    assert raised == [True, True]


def test_what_a_library_says_of_the_function_is_not_said_of_ours(monkeypatch: pytest.MonkeyPatch):
    """`ctypes.pythonapi` and what it has are shared by all that is in a process."""
    import ctypes

    shared = ctypes.pythonapi.PyThreadState_SetAsyncExc
    monkeypatch.setattr(shared, "argtypes", (ctypes.c_char_p, ctypes.c_char_p))
    monkeypatch.setattr(Interruption, "_may_be_raised", lambda _: True)
    interruption = Interruption(threading.current_thread(), ())
    with pytest.raises(RequestInterrupted):
        interruption.attempt()


# --- At each step ---------------------------------------------------------------------------------

PACKAGE = str(Path(uwsgibridge.__file__).parent)
LIMIT_SECONDS = 0.01

# Behind these, Python looks for what has been raised from outside: after calls, jumps back, at beginnings.
LOOKS = ("CALL", "RESUME", "JUMP_BACKWARD", "POP_JUMP_BACKWARD", "SEND", "END_FOR")


class Steps:
    """Follows one thread through our code, and raises the exception in it at one of its steps.

    Args:
        number: of the step, from 1.

    Attributes:
        place: of that step, in words; empty where the thread took fewer before it was done.
        is_raised: whether the exception was raised there; not where the thread holds it off.
    """

    def __init__(self, number: int) -> None:
        self._left = number
        self._looks = False
        self.place = ""
        self.is_raised = False
        self.is_raising = False

    def begin(self, interruption: Interruption) -> None:
        """Follow this thread from here on, by all its frames."""
        self._interruption = interruption
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            self._trace(frame, "call", None)
            frame = frame.f_back
        sys.settrace(self._trace)  # only now, in Python 3.12

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace = self._trace  # before the next one, in Python 3.13
        frame.f_trace_opcodes = True
        if event == "call":
            self._looks = True  # not each Python traces the step that it begins with
        elif event == "opcode":
            looks, self._looks = self._looks, _name(frame).startswith(LOOKS)
            if looks:
                self._left -= 1
                if self._is_over(frame):
                    sys.settrace(None)
                elif not self._left:
                    self._raise(code.co_qualname)
        return self._trace

    def _is_over(self, frame: FrameType) -> bool:
        return (
            self._interruption.finished_at is not None and frame.f_code is WsgiHost._work.__code__
        )

    def _raise(self, place: str) -> None:
        sys.settrace(None)
        self.place = place
        self.is_raising = True
        self.is_raised = self._interruption.attempt()
        self.is_raising = False
        if self.is_raised:
            raise RequestInterrupted


def _name(frame: FrameType) -> str:
    return dis.opname[frame.f_code.co_code[frame.f_lasti]]


@pytest.mark.parametrize("moment", ["before-the-end", "in-close"])
def test_wherever_it_arrives_its_thread_serves_on(monkeypatch: pytest.MonkeyPatch, moment: str):
    """From where the application returns to where the next request is awaited."""
    steps = Steps(0)
    idents: list[int] = []
    due: list[WsgiExchange] = []
    raise_in = interruption_module._raise_in
    # However busy the machine is, no other request is over its time.
    monkeypatch.setattr(
        WsgiExchange, "used_seconds", lambda it, _: 2 * LIMIT_SECONDS if it in due else 0.0
    )
    # A long time, so that the bridge's own attempts do not come first.
    monkeypatch.setattr(Interruption, "_may_be_raised", lambda _: steps.is_raising)
    monkeypatch.setattr(
        interruption_module,
        "_raise_in",
        lambda ident, kind: steps.is_raising or raise_in(ident, kind),
    )

    def follow() -> None:
        """Wait until the request was given up, and follow its thread then."""
        caller = sys._getframe(2).f_locals
        # The accelerator calls the application from the function that the thread runs.
        exchange = caller["thread"].exchange if "thread" in caller else caller["self"]
        due.append(exchange)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while exchange.connection in host.admission.in_flight:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        steps.begin(exchange.interruption)

    class Closing:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"whole"])

        def close(self) -> None:
            follow()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        idents.append(threading.get_ident())
        if environ["PATH_INFO"] == "/next":
            start_response("200 OK", [*TEXT, ("Content-Length", "4")])
            return [b"next"]
        if moment == "in-close":
            start_response("200 OK", [*TEXT, ("Content-Length", "5")])
            return Closing()
        start_response("200 OK", TEXT)
        follow()
        return [b"late"]

    answers: list[tuple[int | str, bytes]] = []
    raised_at: set[str] = set()
    with running(
        app,
        "unix",
        threads=1,
        request_timeout_seconds=LIMIT_SECONDS,
        request_interrupt_seconds=2 * PATIENCE_SECONDS,
    ) as bridge:
        (host,) = (it for it in bridge._worker._hosts if isinstance(it, WsgiHost))
        # The names of headers are known from then on.
        assert ask(bridge.address, "/next").body == b"next"
        while True:
            steps = Steps(len(answers) + 1)
            answer = ask(bridge.address, "/slow")
            assert ask(bridge.address, "/next").body == b"next", steps.place
            if not steps.place:
                break
            answers.append((answer.seen, answer.body))
            if steps.is_raised:
                raised_at.add(steps.place)
        bridge.events.wait_many(len(answers) + 1, event="thread is free again")

    # With the accelerator, it arrives in what is called when `close` has returned.
    is_accelerated = getattr(serving, "accelerator", None) is not None
    is_closed_in_c = is_accelerated and moment == "in-close"
    left = "WsgiExchange.end_call" if is_closed_in_c else "WsgiExchange._answer_with"
    assert raised_at >= {left, "Interruption.hold_off"}
    if moment == "in-close":
        assert set(answers) == {(200, b"whole")}
    else:
        assert {status for status, _ in answers} == {504}
    # Neither a thread more or less, nor another event.
    assert len(set(idents)) == 1
    events = {event["event"] for event in bridge.events.find(level="error")}
    assert events == {"request took too long"}
    assert bridge.events.find(level="warning") == []


# --- At any moment --------------------------------------------------------------------------------

ROUNDS = 4_000


class Rounds:
    """What a host runs in place of its requests: each second one is interrupted, and leaves as it is.

    Attributes:
        begun: what is to be interrupted.
        met: how often the exception arrived: in what was interrupted, in our own code, in the others.
    """

    def __init__(self) -> None:
        self.begun: queue.SimpleQueue[Round] = queue.SimpleQueue()
        self.met = Counter[str]()
        self.others = 0

    def make(self, context: object, number: int) -> Round:
        return Round(self, number)


class Round:
    interruption: Interruption | None = None

    def __init__(self, rounds: Rounds, number: int) -> None:
        self._rounds = rounds
        self._is_other = number % 2 == 1
        self.connection = number
        self.gate = threading.Lock()
        self.gate.acquire()

    def run(self) -> None:
        rounds = self._rounds
        try:
            if self._is_other:
                for _ in range(20):
                    pass
                rounds.others += 1
            else:
                rounds.begun.put(self)
                self.gate.acquire()
        except RequestInterrupted:
            rounds.met["other" if self._is_other else "interrupted"] += 1

    def end_interrupted(self) -> None:
        self._rounds.met["ours"] += 1


def make_plain_thread(*arguments: Any, **_: Any) -> PythonThread:
    """Serve in Python, which gives the exception more places to arrive at."""
    return PythonThread(*arguments)


# What the collector calls may meet it, too.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_leaves_as_it_is_interrupted_takes_nothing_along(monkeypatch: pytest.MonkeyPatch):
    rounds = Rounds()
    current: Round

    chance = random.Random(0)

    def leave_now(_: Interruption) -> bool:
        current.gate.release()
        if (seconds := chance.choice([None, 0, 2e-5])) is not None:
            time.sleep(seconds)  # in which it comes as far as it may
        return True

    monkeypatch.setattr(Interruption, "_may_be_raised", leave_now)
    monkeypatch.setattr(serving, "WsgiExchange", rounds.make)
    monkeypatch.setattr(wsgi, "make_thread", make_plain_thread)
    told: list[object] = []
    host = WsgiHost.__new__(WsgiHost)
    running: Running = {}
    host._queue, host._running, host._given_up = queue.SimpleQueue(), RunningRequests(), {}
    host._running.add_table(running)
    host._unfit = lambda *_: told.append("unfit")
    host.admission = host._flights = None  # type: ignore[assignment]
    monkeypatch.setattr(host, "_release", lambda _: None)
    host._turn = SimpleNamespace(refuses=lambda _: False)  # type: ignore[assignment]
    host._context = SimpleNamespace(  # type: ignore[assignment]
        logs_access=False,
        settings=SimpleNamespace(frontend_buffer_bytes=0),
        errors=SimpleNamespace(serve_thread=lambda: None),
        reporter=SimpleNamespace(thread_interrupted=told.append),
        recorders=SimpleNamespace(make=lambda: None),
    )
    interval = sys.getswitchinterval()
    thread = threading.Thread(target=host._work, args=(running,))
    thread.start()
    try:
        # The finer, the more places of both threads it is switched at.
        sys.setswitchinterval(1e-5)
        for number in range(0, 2 * ROUNDS, 2):
            host._queue.put(number)  # type: ignore[arg-type]
            host._queue.put(number + 1)  # type: ignore[arg-type]
            current = rounds.begun.get(timeout=PATIENCE_SECONDS)
            interruption = host._claim(current)  # type: ignore[arg-type]
            assert interruption is not None
            deadline = time.monotonic() + PATIENCE_SECONDS
            while interruption.finished_at is None:
                interruption.attempt()
                assert time.monotonic() < deadline
                time.sleep(0)
    finally:
        sys.setswitchinterval(interval)
        host._queue.put(None)
        thread.join(PATIENCE_SECONDS)

    assert not thread.is_alive()
    assert told == []
    assert rounds.others == ROUNDS
    assert rounds.met["other"] == 0
    # What is missing arrived where it was waited for.
    assert 0 < rounds.met["interrupted"] + rounds.met["ours"] <= ROUNDS
    assert (host._running.items(), host._given_up) == ([], {})
