"""A worker's life: how it begins, what it tells when it crashes, why it is replaced, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import pytest

from integration.connecting import connect
from integration.crash_report import count_held
from integration.process_tree import everybody
from integration.workers import (
    EVERY_INTERFACE,
    EVERY_SOCKET,
    Load,
    distinct_workers,
    fetch,
    one_round,
    workers,
    write,
)
from tests.processes import wait_gone
from uwsgibridge.client import ping, request
from uwsgibridge.control.client import ControlConnection
from uwsgibridge.protocol.packet import encode_packet
from uwsgibridge.testing import BridgeProcess, LocalStack, StackError, event_with
from uwsgibridge.testing.log_stream import LogEvent, LogStream

APPS = Path(__file__).parent / "apps"

LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
EVERY_WAY_TO_LOAD = pytest.mark.parametrize(
    "loading", [(), ("--preload",)], ids=["loaded", "preloaded"]
)

MEGABYTE = 1_000_000


class Latch:
    """What `/hold` waits for: the application's connections to it end when it is opened."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(path)
        self._listening.listen(128)

    def open(self) -> None:
        """Let go of all that wait, and of all that come later."""
        self._listening.close()


@pytest.fixture
def latch() -> Iterator[Latch]:
    with tempfile.TemporaryDirectory() as directory:
        latch = Latch(f"{directory}/latch")
        yield latch
        latch.open()


Start = Callable[..., LocalStack]


@pytest.fixture
def start(latch: Latch) -> Iterator[Start]:
    """Start two workers of `worker_life` behind an Nginx."""

    def start(interface: str, *arguments: str, **options: Any) -> LocalStack:
        environment = {"WORKER_LIFE_LATCH": latch.path, **options.pop("environment", {})}
        stack = LocalStack(
            f"worker_life:{interface}",
            app_dir=APPS,
            socket=options.pop("kind_of_socket", "unix"),
            serve_args=("--workers", "2", "--lifespan", "off", *arguments),
            environment=environment,
            **options,
        )
        return stacks.enter_context(stack)

    with ExitStack() as stacks:
        yield start
        latch.open()


class Held:
    """Requests through Nginx that the application holds; a context manager that closes them.

    Attributes:
        workers: that hold them, by path.
    """

    def __init__(self, stack: LocalStack) -> None:
        self.workers: dict[str, int] = {}
        self._stack = stack
        self._connections: dict[str, http.client.HTTPConnection] = {}

    def begin(self, path: str, method: str = "GET", *, tells: str = "holds") -> int:
        """Ask, and wait until the application has it; the worker it is in."""
        since = len(self._stack.log_events())
        self.ask(path, method)
        event = self._stack.wait_for_event(
            event_with(event=f"app: {tells}", path=path), since=since
        )
        self.workers[path] = pid_in(event)
        return self.workers[path]

    def ask(self, path: str, method: str = "GET") -> None:
        where = urlsplit(self._stack.url)
        assert where.hostname
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=20)
        self._connections[path] = connection
        connection.request(method, f"{path}?token=secret")

    def statuses(self) -> dict[str, int]:
        """Read all answers."""
        found = {}
        for path, connection in self._connections.items():
            with connection.getresponse() as answer:
                found[path] = answer.status
                answer.read()
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_):
        for connection in self._connections.values():
            connection.close()


def pid_in(event: LogEvent) -> int:
    pid = event["pid"]
    assert isinstance(pid, int)
    return pid


def facts(stack: LocalStack) -> dict[str, Any]:
    with urllib.request.urlopen(f"{stack.url}/facts", timeout=20) as answer:
        found = json.load(answer)
    assert isinstance(found, dict)
    return found


def events_of(stack: LocalStack, name: str) -> list[LogEvent]:
    return [event for event in stack.log_events() if event["event"] == name]


def wait_for_many(stack: LocalStack, count: int, name: str) -> list[LogEvent]:
    """Wait for so many events; those that have come already count."""
    found: list[LogEvent] = []

    def is_last(event: LogEvent) -> bool:
        if event["event"] == name:
            found.append(event)
        return len(found) == count

    stack.wait_for_event(is_last, timeout_seconds=20)
    return found


def drains(worker: int) -> Callable[[LogEvent], bool]:
    return event_with(event="stopping: running requests may end", worker=worker)


# --- The report of a crash ------------------------------------------------------------------------


@EVERY_INTERFACE
@pytest.mark.parametrize("cause", ["SIGABRT", "SIGKILL"])
def test_report_of_a_crash_says_what_was_held(start, latch, interface, cause):
    stack = start(interface)
    with Held(stack) as held:
        victim = held.begin("/hold/first", "POST")
        for number in range(3):
            held.begin(f"/hold/{number}")
        distinct_workers(stack, 2)  # requests that are over
        held.begin("/hold/last")
        if cause == "SIGKILL":
            os.kill(victim, signal.SIGKILL)
        else:
            victim = held.begin("/abort", tells="aborts")
        report = stack.wait_for_event(event_with(event="worker ended"))
        latch.open()
        statuses = held.statuses()
    assert (report["worker"], report["signal"]) == (victim, cause)
    lost = {path for path, worker in held.workers.items() if worker == victim}
    named = sorted(("POST " if path == "/hold/first" else "GET ") + path for path in lost)
    # A client has its answer a moment before the request is over for the worker, which a busy machine may end there.
    assert sorted(it for it in report["held"] if it != "GET /") == named
    # What the other worker held is answered, and what was lost is seen to be.
    assert statuses == {path: 502 if path in lost else 200 for path in held.workers}
    assert "secret" not in stack.bridge_log
    assert ("abort_deliberately" in stack.bridge_log) == (cause == "SIGABRT")
    assert victim not in distinct_workers(stack, 2)


@pytest.fixture(params=["tcp", "unix"])
def bind(request: pytest.FixtureRequest, latch: Latch) -> str:
    return "127.0.0.1:0" if request.param == "tcp" else f"unix:{latch.path}.bridge"


@contextmanager
def one_worker(bind, latch, interface, *arguments, **options):
    with BridgeProcess(
        *(f"worker_life:{interface}", "--app-dir", str(APPS), "--bind", bind),
        *("--workers", "1", "--threads", "1", "--lifespan", "off", *arguments),
        environment={"WORKER_LIFE_LATCH": latch.path},
        **options,
    ) as bridge:
        yield bridge
        latch.open()


def vars_for(path):
    return encode_packet(
        {"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": "token=secret"}
    )


def read_all(connection):
    """Read to the end; what a connection that is reset has brought before."""
    received = b""
    try:
        while piece := connection.recv(65_536):
            received += piece
    except ConnectionResetError:
        pass
    return received


@EVERY_INTERFACE
def test_packet_that_came_in_pieces_is_reported_whole(bind, latch, interface):
    packet = vars_for("/hold/in-pieces")
    with (
        one_worker(bind, latch, interface) as bridge,
        closing(connect(bridge.address)) as connection,
    ):
        for begin, end in ((0, 3), (3, 20), (20, len(packet))):
            connection.sendall(packet[begin:end])
            ping(bridge.address)  # what came before has been read
        event = bridge.wait_for_event(event_with(event="app: holds"))
        os.kill(pid_in(event), signal.SIGKILL)
        report = bridge.wait_for_event(event_with(event="worker ended"))
        assert report["held"] == ["GET /hold/in-pieces"]
        assert read_all(connection) == b""


@EVERY_INTERFACE
def test_packet_that_has_not_arrived_is_not_reported(bind, latch, interface, tmp_path):
    """Not even with the end of one that was over, which stood in the same memory before."""
    control = tmp_path / "control"
    with (
        one_worker(bind, latch, interface, "--control-socket", str(control)) as bridge,
        ControlConnection(control) as operator,
        ExitStack() as open_ones,
    ):
        for path in ("/over/one", "/over/two"):
            with closing(connect(bridge.address)) as connection:
                connection.sendall(vars_for(path))
                assert b" 200 OK" in read_all(connection)
        held, pieces = vars_for("/hold/now"), vars_for("/not/yet")
        for sent in ((held,), (pieces[:3], pieces[3:-10])):
            connection = open_ones.enter_context(closing(connect(bridge.address)))
            for piece in sent:
                connection.sendall(piece)
                wait_until_read(operator)
        event = bridge.wait_for_event(event_with(event="app: holds"))
        os.kill(pid_in(event), signal.SIGKILL)
        report = bridge.wait_for_event(event_with(event="worker ended"))
    assert report["held"] == ["GET /hold/now"]
    assert report["held_connections"] == 1


def wait_until_read(operator):
    """Wait until a worker has read what was sent; a ping would go where the packets go."""
    for _ in range(200):
        [listening] = operator.ask("status")["listening"]
        if not listening["waiting"]:
            break
    for _ in range(2):  # its loop has had its turns
        operator.ask("status")


@EVERY_SOCKET
@EVERY_INTERFACE
def test_only_what_a_killed_worker_held_fails(start, kind_of_socket, interface):
    stack = start(interface, kind_of_socket=kind_of_socket)
    accounted = 0
    with Load(stack.url) as load:
        for _ in range(4):
            since = len(stack.log_events())
            victim = fetch(stack.url)[1]
            killed_at = monotonic()
            os.kill(victim, signal.SIGKILL)
            report = stack.wait_for_event(event_with(event="worker ended"), since=since)
            assert report["worker"] == victim
            accounted += count_held(report)
            stack.wait_for_event(event_with(event="app: first request"), since=since)
            assert monotonic() - killed_at < 1
    failed = load.seen - Counter({"alive": load.seen["alive"]})
    assert set(failed) <= {"status 502"}
    assert failed.total() <= accounted


# --- Workers that do not come up, or do not answer ------------------------------------------------


def test_workers_that_die_at_their_start_are_tried_again_after_longer_and_longer(tmp_path):
    with workers(tmp_path) as stack:
        victim, other = distinct_workers(stack, 2)
        write(tmp_path, "two", "raise RuntimeError('half deployed')\n")
        os.kill(victim, signal.SIGKILL)
        stack.wait_for_event(event_with(event="next worker starts later", in_seconds=0.4))
        assert [it["in_seconds"] for it in events_of(stack, "next worker starts later")] == [
            0.1,
            0.2,
            0.4,
        ]
        killed, *failed = events_of(stack, "worker ended")
        assert (killed["worker"], killed["was_ready"]) == (victim, True)
        assert [(it["exit_status"], it["was_ready"]) for it in failed] == [(3, False)] * 3
        assert stack.bridge_log.count("RuntimeError: half deployed") == 3
        assert set(one_round(stack.url)) == {"one"}
        write(tmp_path, "two", 'import sys; sys.stderr.write(\'{"event": "app: mended"}\\n\')')
        stack.wait_for_event(event_with(event="app: mended"))
        # All is well again, and what comes later begins anew.
        assert len(distinct_workers(stack, 2)) == 2
        write(tmp_path, "three", "raise RuntimeError('half deployed')\n")
        since = len(stack.log_events())
        os.kill(other, signal.SIGKILL)
        event = stack.wait_for_event(
            lambda it: it["event"] == "next worker starts later", since=since
        )
        assert event["in_seconds"] == 0.1


def test_workers_that_crash_as_soon_as_they_are_ready_are_replaced_after_longer_and_longer(start):
    stack = start("wsgi", "--workers", "1")
    for _ in range(8):
        with Held(stack) as held:
            held.ask("/abort")
            assert held.statuses() == {"/abort": 502}
    assert [
        (it["in_seconds"], it["reason"])
        for it in wait_for_many(stack, 3, "next worker starts later")
    ] == [
        (seconds, f"{count} workers in a row ended within 1 s of being ready")
        for count, seconds in ((6, 0.1), (7, 0.2), (8, 0.4))
    ]
    assert set(one_round(stack.url)) == {"alive"}
    assert len(events_of(stack, "worker ended")) == 8


def test_worker_with_a_blocked_loop_is_killed_and_its_stack_is_told(start):
    stack = start("asgi", "--heartbeat-timeout-seconds", "1")
    with Held(stack) as held:
        victim = held.begin("/block", tells="blocks")
        with Load(stack.url, threads=2) as load:
            event = stack.wait_for_event(event_with(event="killing worker: it does not answer"))
            report = stack.wait_for_event(event_with(event="worker ended"))
            assert held.statuses() == {"/block": 502}
    assert event["worker"] == report["worker"] == victim
    assert "block_deliberately" in str(event["stack"])
    assert (report["signal"], report["held"]) == ("SIGKILL", ["GET /block"])
    assert set(load.seen) == {"alive"}
    assert victim not in distinct_workers(stack, 2)


# --- Hooks, and memory that is shared -------------------------------------------------------------


@EVERY_INTERFACE
@EVERY_WAY_TO_LOAD
def test_hooks_are_called_once_in_each_worker(start, latch, interface, loading):
    hooks = ("--on-fork", "worker_life:on_fork", "--on-worker-exit", "worker_life:on_exit")
    stack = start(interface, *loading, *hooks)
    assert len(distinct_workers(stack, 2)) == 2
    with Held(stack) as held:
        busy = held.begin("/hold/through-the-drain")
        stack.bridge.signal(signal.SIGTERM)
        stack.wait_for_event(drains(busy))
        latch.open()
        assert held.statuses() == {"/hold/through-the-drain": 200}
    assert stack.bridge.wait_ended(10) == 0
    assert stack.stop() == 0
    told = defaultdict(list)
    for event in stack.log_events():
        if str(event["event"]).startswith("app: "):
            told[pid_in(event)].append(event["event"])
    assert told.pop(busy) == [
        f"app: {it}" for it in ("on_fork", "first request", "holds", "goes on", "on_exit")
    ]
    assert list(told.values()) == [["app: on_fork", "app: first request", "app: on_exit"]]


@EVERY_WAY_TO_LOAD
def test_on_fork_that_fails_ends_the_start_and_is_said_once(loading):
    with pytest.raises(StackError) as caught:
        BridgeProcess(
            *("worker_life:wsgi", "--app-dir", str(APPS), "--bind", "127.0.0.1:0"),
            *("--workers", "2", "--on-fork", "worker_life:failing_hook", *loading),
        ).start()
    assert caught.value.exit_status == 3
    assert caught.value.log.count("RuntimeError: no database today") == 1
    assert "in failing_hook" in caught.value.log
    # The application's own traceback, and none of ours.
    assert "uwsgibridge/" not in caught.value.log


def test_on_worker_exit_that_fails_is_told_and_the_end_is_an_ordinary_one(start):
    stack = start("wsgi", "--on-worker-exit", "worker_life:failing_hook")
    assert stack.stop() == 0
    assert stack.bridge_log.count("RuntimeError: no database today") == 2
    assert [it["exit_status"] for it in events_of(stack, "worker ended")] == [3, 3]


def proportional_bytes(pid: int) -> int:
    """Tell the memory of a process, with pages that several share counted in part (proc(5))."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    [line] = [it for it in rollup.splitlines() if it.startswith("Pss:")]
    return int(line.split()[1]) * 1024


@LINUX_ONLY
def test_preloaded_memory_is_shared_for_good(start):
    """Garbage collections, which write to all objects that they look at, leave it as it is."""
    objects = 400_000  # some 45 MB
    used = {}
    for loading in ("--no-preload", "--preload"):
        stack = start(
            *("wsgi", loading, "--on-fork", "worker_life:collect"),
            environment={"WORKER_LIFE_OBJECTS": str(objects)},
        )
        used[loading] = sum(map(proportional_bytes, distinct_workers(stack, 2)))
        assert facts(stack)["frozen"] > objects
    assert used["--preload"] < used["--no-preload"] / 2


# --- Recycling ------------------------------------------------------------------------------------


class Watch:
    """Counts, again and again, the workers that the supervisor says to be ready.

    Attributes:
        counts: all that were seen.
    """

    def __init__(self, control_socket: Path) -> None:
        self.counts: set[int] = set()
        self._path = control_socket
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with ControlConnection(self._path) as connection:
            while not self._over.is_set():
                told = connection.ask("status")["workers"]
                self.counts.add(sum(it["state"] in {"ready", "busy"} for it in told))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()


@EVERY_INTERFACE
def test_workers_are_recycled_one_at_a_time_and_a_successor_comes_first(start, tmp_path, interface):
    control = tmp_path / "control"
    stack = start(
        *(interface, "--max-requests", "20", "--on-fork", "worker_life:on_fork"),
        *("--control-socket", str(control)),
    )
    with Load(stack.url, threads=4) as load, Watch(control) as watch:
        wait_for_many(stack, 8, "recycling worker")
    assert set(load.seen) == {"alive"}
    assert min(watch.counts) == 2
    assert stack.stop() == 0
    steps = {
        "app: on_fork": "born",
        "recycling worker": "due",
        "stopping: running requests may end": "drains",
        "stopped": "ends",
    }
    seen = []
    for event in stack.log_events():
        if event["event"] in steps:
            pid = event.get("pid", event.get("worker"))
            if pid is None:
                break  # the supervisor's own end
            seen.append((steps[str(event["event"])], pid))
    began, rounds = seen[:2], [seen[it : it + 4] for it in range(2, len(seen) - 3, 4)]
    assert [step for step, _ in began] == ["born", "born"]
    assert len(rounds) >= 7
    for round_ in rounds:
        # The supervisor may still be writing why when the successor, a process of its own, is there.
        assert sorted(step for step, _ in round_[:2]) == ["born", "due"], seen
        assert [step for step, _ in round_[2:]] == ["drains", "ends"], seen
        due, drained, ended = (pid for step, pid in round_ if step != "born")
        assert due == drained == ended
    assert {pid for _, pid in began} <= {round_[-1][1] for round_ in rounds}


def test_chance_spreads_the_number_of_requests(start):
    """Hardly a worker in a thousand has had enough after the few that come here."""
    stack = start("wsgi", "--max-requests", "1", "--max-requests-jitter", "1000000")
    with Load(stack.url, threads=2):
        assert len(distinct_workers(stack, 2)) == 2
    assert stack.stop() == 0
    assert events_of(stack, "recycling worker") == []


def test_old_workers_are_recycled(start):
    stack = start("wsgi", "--worker-lifetime-seconds", "0.1", "--on-fork", "worker_life:on_fork")
    events = wait_for_many(stack, 2, "recycling worker")
    old = {pid_in(it) for it in wait_for_many(stack, 2, "app: on_fork")}
    assert {it["worker"] for it in events} == old
    assert all("--worker-lifetime-seconds" in str(it["reason"]) for it in events)
    assert all(wait_gone(pid, 10) for pid in old)
    assert set(one_round(stack.url)) == {"alive"}


@LINUX_ONLY
def test_worker_with_much_memory_is_replaced_when_its_requests_have_ended(start, latch):
    stack = start("wsgi", "--workers", "1", "--max-rss-bytes", str(120 * MEGABYTE))
    with Held(stack) as held:
        eater = held.begin("/hold/meanwhile")
        fetch(f"{stack.url}/eat/{120 * MEGABYTE}")
        event = stack.wait_for_event(event_with(event="recycling worker"))
        stack.wait_for_event(drains(eater))
        latch.open()
        assert held.statuses() == {"/hold/meanwhile": 200}
    assert event["worker"] == eater
    assert "--max-rss-bytes" in str(event["reason"])
    assert wait_gone(eater, 10)
    assert fetch(stack.url)[1] != eater


@LINUX_ONLY
def test_worker_with_far_too_much_memory_is_killed(start):
    stack = start("wsgi", "--workers", "1", "--max-rss-hard-bytes", str(120 * MEGABYTE))
    with Held(stack) as held:
        eater = held.begin("/hold/lost")
        held.begin(f"/eat/{120 * MEGABYTE}", tells="eats")
        event = stack.wait_for_event(event_with(event="killing worker: it has too much memory"))
        report = stack.wait_for_event(event_with(event="worker ended"))
        assert held.statuses()["/hold/lost"] == 502
    assert event["worker"] == report["worker"] == eater
    assert "--max-rss-hard-bytes" in str(event["reason"])
    assert report["signal"] == "SIGKILL"
    assert "GET /hold/lost" in report["held"]
    assert fetch(stack.url)[1] != eater


# --- A number of workers that follows the load ----------------------------------------------------


def test_number_of_workers_follows_the_load_within_its_bounds(start, latch):
    stack = start(
        *("wsgi", "--threads", "1", "--workers", "1", "--workers-min", "1", "--workers-max", "2"),
        *("--scale-queue-seconds", "0.05", "--scale-up-seconds", "0.1"),
        *("--scale-idle-seconds", "0.1"),
    )
    with Held(stack) as held:
        held.begin("/hold/the-thread")
        for number in range(5):
            held.ask(f"/hold/{number}")
        [grown] = wait_for_many(stack, 1, "number of workers changed")
        assert grown["workers"] == 2
        assert "wait" in str(grown["reason"])
        stack.bridge.signal(signal.SIGTTIN)  # there are as many as there may be
        stack.bridge.signal(signal.SIGHUP)
        stack.wait_for_event(event_with(event="reloaded", workers=2))
        latch.open()
        assert set(held.statuses().values()) == {200}
    _, shrunk = wait_for_many(stack, 2, "number of workers changed")
    assert shrunk["workers"] == 1
    assert str(shrunk["reason"]).startswith("idle")
    stack.bridge.signal(signal.SIGTTOU)  # and now, as few
    assert set(one_round(stack.url)) == {"alive"}
    assert stack.stop() == 0
    assert len(events_of(stack, "number of workers changed")) == 2


# --- Signals --------------------------------------------------------------------------------------


@EVERY_INTERFACE
def test_second_interrupt_breaks_requests_off(start, interface):
    stack = start(interface, graceful_timeout_seconds=60)
    with Held(stack) as held:
        worker = held.begin("/hold/for-ever")
        stack.bridge.signal(signal.SIGINT)
        stack.wait_for_event(drains(worker))
        stack.bridge.signal(signal.SIGINT)
        assert held.statuses()["/hold/for-ever"] in {502, 503}
        assert stack.bridge.wait_ended(20) == 0
    assert stack.stop() == 0
    assert "Traceback" not in stack.bridge_log
    assert events_of(stack, "worker ended") == []  # none had to be killed


@contextmanager
def log_pipe(path: Path) -> Iterator[LogStream]:
    """A pipe with a name in the place of a log file: what is written to it can be waited for."""
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reading, True)
    # While somebody may write it has no end.
    writing = os.open(path, os.O_WRONLY)
    file = os.fdopen(reading, "rb")
    lines = LogStream(file, source=path.name)
    try:
        yield lines
    finally:
        os.close(writing)
        assert lines.wait_ended(10)
        file.close()


def test_all_processes_open_the_log_file_anew(tmp_path):
    log = tmp_path / "log"
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        log_pipe(log) as old,
        log_pipe(tmp_path / "next") as new,
        subprocess.Popen(
            (
                *(sys.executable, "-m", "uwsgibridge", "serve", "worker_life:wsgi"),
                *("--app-dir", str(APPS), "--bind", "fd://0", "--workers", "1"),
                *("--log-format", "json", "--log-file", str(log)),
                *("--on-fork", "worker_life:on_fork"),
            ),
            stdin=listening.fileno(),
        ) as serving,
    ):
        try:
            address = f"127.0.0.1:{listening.getsockname()[1]}"
            assert request(address, "/hold/before").status == 200
            old.wait_for_event(event_with(event="app: holds", path="/hold/before"))
            log.rename(tmp_path / "log.1")
            (tmp_path / "next").rename(log)
            serving.send_signal(signal.SIGUSR1)
            # The supervisor; a worker that was there; and one that comes later.
            new.wait_for_event(event_with(event="log file opened anew"))
            # The worker hears of it from the supervisor, and may answer before.
            reopened = event_with(event="app: holds", path="/hold/meanwhile")
            deadline = monotonic() + 10
            while not any(map(reopened, new.events())):
                assert monotonic() < deadline
                assert request(address, "/hold/meanwhile").status == 200
            assert request(address, "/hold/after").status == 200
            event = new.wait_for_event(event_with(event="app: holds", path="/hold/after"))
            os.kill(pid_in(event), signal.SIGKILL)
            new.wait_for_event(event_with(event="worker ended", worker=event["pid"]))
            new.wait_for_event(event_with(event="app: on_fork"))
            serving.terminate()
            assert serving.wait(20) == 0
        finally:
            serving.kill()
    assert "/hold/after" not in old.text()
    assert "worker ended" not in old.text()


def test_a_reload_that_is_asked_for_during_a_stop_does_not_come(start, latch):
    stack = start("wsgi")
    with Held(stack) as held:
        worker = held.begin("/hold/through-the-drain")
        stack.bridge.signal(signal.SIGTERM)
        stack.wait_for_event(drains(worker))
        stack.bridge.signal(signal.SIGHUP)
        stack.bridge.signal(signal.SIGQUIT)
        stack.wait_for_event(event_with(event="stacks"))  # which is taken after it
        latch.open()
        assert held.statuses() == {"/hold/through-the-drain": 200}
    assert stack.bridge.wait_ended(10) == 0
    assert stack.stop() == 0
    assert events_of(stack, "reloading: new workers come up first") == []


@EVERY_INTERFACE
def test_sigterm_to_all_processes_is_one_drain(start, latch, interface):
    """As systemd sends it with `KillMode=control-group`."""
    places = ("--threads", "1", "--accept-margin", "0", "--max-concurrency", "1")
    stack = start(interface, *places)
    with Held(stack) as held:
        busy = {held.begin(path) for path in ("/hold/one", "/hold/other")}
        assert len(busy) == 2
        for pid in (*everybody(stack.pid), stack.pid):
            os.kill(pid, signal.SIGTERM)
        wait_for_many(stack, 3, "stopping: running requests may end")
        latch.open()
        assert held.statuses() == {"/hold/one": 200, "/hold/other": 200}
    assert stack.bridge.wait_ended(10) == 0
    assert stack.stop() == 0
    drained = [it.get("worker") for it in events_of(stack, "stopping: running requests may end")]
    assert Counter(drained) == Counter([None, *busy])
    assert events_of(stack, "stopping at once") == events_of(stack, "worker ended") == []


def test_connections_that_wait_in_the_backlog_at_a_stop_are_answered(bind, latch, tmp_path):
    control = tmp_path / "control"
    with (
        one_worker(
            *(bind, latch, "wsgi", "--accept-margin", "1", "--control-socket", str(control)),
            graceful_timeout_seconds=20,
        ) as bridge,
        ControlConnection(control) as operator,
        ExitStack() as open_ones,
    ):
        connections = [open_ones.enter_context(closing(connect(bridge.address))) for _ in range(8)]
        for number, connection in enumerate(connections):
            connection.sendall(vars_for(f"/hold/{number}"))
        bridge.wait_for_event(event_with(event="app: holds"))
        [listening] = operator.ask("status")["listening"]
        assert listening["waiting"] >= 5
        bridge.signal(signal.SIGTERM)
        bridge.wait_for_event(lambda it: "worker" in it and str(it["event"]).startswith("stopping"))
        latch.open()
        assert all(b" 200 OK" in read_all(it) for it in connections)
        assert bridge.wait_ended(10) == 0


@EVERY_INTERFACE
def test_stacks_are_logged_and_all_goes_on(start, latch, interface):
    stack = start(interface)
    pids = distinct_workers(stack, 2)
    with Held(stack) as held:
        busy = held.begin("/hold/in-flight")
        stack.bridge.signal(signal.SIGQUIT)
        told = wait_for_many(stack, 3, "stacks")
        roles = {it["pid"]: it["role"] for it in told}
        assert roles == {stack.pid: "supervisor", **dict.fromkeys(pids, "worker")}
        [of_busy] = [str(it["stack"]) for it in told if it["pid"] == busy]
        assert "Request GET /hold/in-flight" in of_busy
        assert "in hold" in of_busy
        assert "secret" not in stack.bridge_log
        latch.open()
        assert held.statuses() == {"/hold/in-flight": 200}
    assert distinct_workers(stack, 2) == pids


def test_stacks_of_a_worker_that_does_not_answer_are_told_to_all_who_ask(start, tmp_path):
    control = tmp_path / "control"
    stack = start("asgi", "--control-socket", str(control))
    with Held(stack) as held:
        blocked = held.begin("/block", tells="blocks")
        with ControlConnection(control) as operator:
            stack.bridge.signal(signal.SIGQUIT)
            told = operator.ask("stacks")["processes"]
            assert "block_deliberately" in {it["pid"]: it["stack"] for it in told}[blocked]
        logged = {it["pid"]: it["stack"] for it in wait_for_many(stack, 3, "stacks")}
        assert "block_deliberately" in str(logged[blocked])
        os.kill(blocked, signal.SIGKILL)
    assert blocked not in distinct_workers(stack, 2)


@EVERY_INTERFACE
def test_signals_that_are_for_the_supervisor_do_no_harm_to_others(start, interface):
    stack = start(interface)
    pids = distinct_workers(stack, 2)
    template = facts(stack)["template"]
    for pid in pids:
        os.kill(pid, signal.SIGHUP)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1):
        os.kill(template, number)
    assert distinct_workers(stack, 2) == pids
    stack.bridge.signal(signal.SIGTTIN)
    stack.wait_for_event(event_with(workers=3))
    assert distinct_workers(stack, 3) > pids
    assert facts(stack)["template"] == template


@pytest.mark.parametrize("then", ["reload", "stop"])
def test_worker_that_comes_when_it_is_not_wanted_any_more_does_not_stay(start, then):
    stack = start("wsgi", graceful_timeout_seconds=60)
    template = facts(stack)["template"]
    os.kill(template, signal.SIGSTOP)
    stack.bridge.signal(signal.SIGTTIN)
    stack.wait_for_event(event_with(workers=3))
    if then == "reload":
        stack.bridge.signal(signal.SIGHUP)
        stack.wait_for_event(event_with(event="reloaded"))
    else:
        stack.bridge.signal(signal.SIGTERM)
        stack.wait_for_event(event_with(event="stopping: running requests may end"))
    os.kill(template, signal.SIGCONT)
    assert wait_gone(template, 10)
    if then == "reload":
        stack.bridge.signal(signal.SIGTERM)
    assert stack.bridge.wait_ended(10) == 0
    stack.stop()
    assert "the process that started this one is gone" not in stack.bridge_log


@EVERY_INTERFACE
@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM"])
def test_signals_to_a_bridge_that_serves_by_itself(start, latch, interface, name):
    stack = start(interface, "--workers", "0")
    with Held(stack) as held:
        assert held.begin("/hold/through-the-drain") == stack.pid
        stack.bridge.signal(signal.SIGQUIT)
        stacks = str(stack.wait_for_event(event_with(event="stacks"))["stack"])
        assert "Request GET /hold/through-the-drain" in stacks
        assert "in hold" in stacks
        stack.bridge.signal(getattr(signal, name))
        stack.wait_for_event(event_with(signal=name))
        latch.open()
        assert held.statuses() == {"/hold/through-the-drain": 200}
        assert stack.bridge.wait_ended(10) == 0


@pytest.mark.parametrize("count", [0, 2])
def test_wsgi_application_is_told_of_other_processes(start, count):
    assert facts(start("wsgi", "--workers", str(count)))["multiprocess"] == (count > 1)


# --- When the others are gone ---------------------------------------------------------------------


@LINUX_ONLY
@EVERY_INTERFACE
@pytest.mark.parametrize("ends", [True, False], ids=["request ends", "request does not"])
def test_workers_of_a_killed_supervisor_drain_and_leave_the_socket_to_the_next(
    latch, interface, ends
):
    bind = f"unix:{latch.path}.bridge"
    seconds = 10.0 if ends else 0.5
    with one_worker(bind, latch, interface, graceful_timeout_seconds=seconds) as first:
        with closing(connect(first.address)) as connection:
            connection.sendall(vars_for("/hold/through-the-drain"))
            first.wait_for_event(event_with(event="app: holds"))
            others = everybody(first.pid)
            assert len(others) == 2
            first.signal(signal.SIGKILL)
            with one_worker(bind, latch, interface) as second:
                assert request(second.address, "/").status == 200
                if ends:
                    latch.open()
                answer = read_all(connection)
                assert (b" 200 OK" in answer) == ends
                assert all(wait_gone(pid, 5) for pid in others)
                assert request(second.address, "/").status == 200
        assert first.wait_ended(0) == -signal.SIGKILL


@EVERY_INTERFACE
def test_killed_template_is_followed_by_a_new_generation(start, latch, interface):
    stack = start(interface)
    old = distinct_workers(stack, 2)
    template = facts(stack)["template"]
    with Held(stack) as held, Load(stack.url) as load:
        held.begin("/hold/meanwhile")
        os.kill(template, signal.SIGKILL)
        stack.wait_for_event(event_with(event="reloaded"))
        latch.open()
        assert held.statuses() == {"/hold/meanwhile": 200}
    assert set(load.seen) == {"alive"}
    assert all(wait_gone(pid, 10) for pid in old)
    assert facts(stack)["template"] != template


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("asyncio.create_task(leave())", "SystemExit: 7"),
        ("asyncio.get_running_loop().call_soon(sys.exit, 7)", "SystemExit: 7"),
        ("asyncio.get_running_loop().stop()", "Event loop stopped before Future completed"),
    ],
    ids=["task", "callback", "stop"],
)
def test_who_ends_the_event_loop_is_told(
    tmp_path: Path, loop: Literal["asyncio", "uvloop"], how: str, says: str
) -> None:
    """It ends a worker, and no request that is in flight is to blame."""
    (tmp_path / "leaving.py").write_text(
        f"""
import asyncio
import sys


async def leave():
    sys.exit(7)


async def app(scope, receive, send):
    if scope["path"] == "/leave":
        {how}
        await asyncio.sleep(600)
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"served"}})
"""
    )
    serve_args = ("--workers", "1", "--lifespan", "off")
    with LocalStack("leaving:app", app_dir=tmp_path, loop=loop, serve_args=serve_args) as stack:
        address = urlsplit(stack.url)
        with closing(http.client.HTTPConnection(str(address.hostname), address.port)) as client:
            client.request("GET", "/leave")
            assert client.getresponse().status == 503
        told = stack.wait_for_event(
            event_with(event="the application has ended the event loop, and so this worker")
        )
        stack.wait_for_event(event_with(event="worker ended"))
        with urllib.request.urlopen(stack.url) as answer:
            assert answer.read() == b"served"
    assert says in str(told["traceback"])
    assert not [it for it in stack.log_events() if it["event"] == "application failed"]
