"""The module ``uwsgi`` in a whole service: real processes, real signals, a reload, and a worker that is killed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.bridge_process import BridgeProcess, run_to_its_end, running_process
from tests.log_events import EVENT_SECONDS
from uwsgibridge.client import request
from uwsgibridge.control.client import ask

# Answers with what an expression of the query is; its log lines are events.
APPLICATION = """
import json, os, sys, time
from urllib.parse import unquote
import uwsgi, uwsgidecorators

def tell(event, **fields):
    line = json.dumps({"event": event, "pid": os.getpid(), "wid": uwsgi.worker_id(), **fields})
    os.write(1, line.encode() + bytes([10]))  # in one piece, beside those of other workers

tell("app: loaded")

@uwsgidecorators.postfork
def connect():
    tell("app: forked")

uwsgi.atexit = lambda: tell("app: exits")

def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)
    return path

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(eval(unquote(environ["QUERY_STRING"]))).encode()]
"""

TIMER = """
@uwsgidecorators.timer(1)
def tick(number):
    tell("app: ticks", number=number, mule=uwsgi.mule_id())

@uwsgidecorators.timer(1)
def broken(number):
    raise ValueError("out of order")
"""

Start = Callable[..., AbstractContextManager[BridgeProcess]]


@pytest.fixture
def start(directory: Path) -> Start:
    (directory / "site_app.py").write_text(APPLICATION)

    def start(*more: str, **environment: str) -> AbstractContextManager[BridgeProcess]:
        return running_process(
            *(
                "serve",
                "site_app:app",
                "--bind",
                "127.0.0.1:0",
                "--log-format",
                "json",
                "--workers",
                "2",
            ),
            *("--control-socket", str(directory / "control"), "--uwsgi-module", *more),
            directory=directory,
            environment={"PYTHONDONTWRITEBYTECODE": "1", **environment},
        )

    return start


def evaluate(bridge: BridgeProcess, expression: str) -> str:
    answer = request(bridge.address, f"/?{expression}".replace(" ", "%20"))
    assert answer.status == 200, answer.body
    return answer.body.decode()


def number_of_workers(events: list[dict[str, Any]]) -> list[int]:
    return sorted(it["wid"] for it in events)


@pytest.mark.parametrize("preload", ["--preload", "--no-preload"])
def test_workers_have_numbers_and_call_their_hooks(
    start: Start, directory: Path, preload: str
) -> None:
    with start(preload) as bridge:
        forked = bridge.events.wait_many(2, event="app: forked")
        assert number_of_workers(forked) == [1, 2]
        bridge.wait_listening(1)
        loaded = bridge.events.find(event="app: loaded")
        assert number_of_workers(loaded) == ([0] if preload == "--preload" else [1, 2])
        assert evaluate(bridge, "uwsgi.numproc, uwsgi.masterpid()") == f"(2, {bridge.pid})"
        workers = ask(directory / "control", "status")["workers"]
        assert {it["number"]: it["pid"] for it in workers} == {
            it["wid"]: it["pid"] for it in forked
        }
        told = eval(evaluate(bridge, "uwsgi.workers()"))
        assert [it["id"] for it in told] == [1, 2]
        assert {it["pid"] for it in told} == {it["pid"] for it in forked}
        assert int(evaluate(bridge, "uwsgi.total_requests()")) >= 2
        assert bridge.stop() == 0
    exits = bridge.events.find(event="app: exits")
    assert number_of_workers(exits) == [1, 2], bridge.events.text()


def test_a_worker_that_is_replaced_leaves_its_number(start: Start, directory: Path) -> None:
    with start("--max-requests", "5", "--workers", "1") as bridge:
        first = bridge.events.wait(event="app: forked")
        bridge.wait_listening(1)
        for _ in range(5):
            evaluate(bridge, "1")
        second = bridge.events.wait_many(2, event="app: forked")[1]
        assert (first["wid"], second["wid"]) == (1, 1)
        os.kill(second["pid"], signal.SIGKILL)
        third = bridge.events.wait_many(3, event="app: forked")[2]
        assert third["wid"] == 1


def test_a_reload_by_the_application_begins_numbers_again(start: Start) -> None:
    with start() as bridge:
        bridge.wait_listening(1)
        assert evaluate(bridge, "uwsgi.reload()") == "True"
        forked = bridge.events.wait_many(4, event="app: forked")
        assert number_of_workers(forked) == [1, 1, 2, 2]
        bridge.events.wait(event="reloaded")


def test_a_lock_holds_between_workers_until_its_worker_is_dead(
    start: Start, directory: Path
) -> None:
    with start("--threads", "2") as bridge:
        bridge.wait_listening(1)
        _, holder = eval(evaluate(bridge, "uwsgi.lock(), os.getpid()"))
        assert evaluate(bridge, "uwsgi.is_locked()") == "True"
        os.kill(holder, signal.SIGKILL)
        bridge.events.wait_many(3, event="app: forked")
        assert evaluate(bridge, "uwsgi.lock(), uwsgi.unlock(), uwsgi.is_locked()") == (
            "(None, None, False)"
        )
        assert bridge.stop() == 0


def test_two_workers_exclude_each_other(start: Start, directory: Path) -> None:
    import threading

    with start("--workers", "3", "--threads", "1", "--accept-margin", "0") as bridge:
        bridge.wait_listening(1)
        write = (
            "[(uwsgi.lock(), open('log','a').write(f'in {os.getpid()} '), time.sleep(0.002), "
            "open('log','a').write('out '), uwsgi.unlock()) for _ in range(5)]"
        )
        threads = [
            threading.Thread(target=evaluate, args=(bridge, write.replace("%", "%25")))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(EVENT_SECONDS)
    words = [it for it in (directory / "log").read_text().split() if it in {"in", "out"}]
    assert words == ["in", "out"] * 30
    assert len(set((directory / "log").read_text().split())) > 3  # several processes


def test_a_request_has_variables_in_the_access_log(start: Start, directory: Path) -> None:
    text = "%(uri) user=%(logvar.user) none=%(logvar.none)"
    expression = "uwsgi.set_logvar('user', 'ann'), uwsgi.get_logvar('user')"
    with start(
        "--workers", "1", "--access-log-file", "access.log", "--access-log-format", text
    ) as bridge:
        bridge.wait_listening(1)
        assert evaluate(bridge, expression) == "(None, b'ann')"
        assert evaluate(bridge, "uwsgi.get_logvar('user')") == "None"
        assert bridge.stop() == 0
    first, second = (directory / "access.log").read_text().splitlines()
    assert first.endswith("user=ann none=-")
    assert second.endswith("user=- none=-")


def test_json_has_the_variables_in_a_field(start: Start, directory: Path) -> None:
    long = "uwsgi.set_logvar('long', 'x' * 9000), uwsgi.set_logvar('user', 'ann')"
    with start(
        *(
            "--workers",
            "1",
            "--threads",
            "1",
        ),  # so that the lines come in the order of the requests
        *("--access-log-file", "access.log", "--access-log-format", "json"),
    ) as bridge:
        bridge.wait_listening(1)
        evaluate(bridge, "uwsgi.set_logvar('user', b'\\xff\"')")
        evaluate(bridge, "1")
        evaluate(bridge, long)
        assert bridge.stop() == 0
    lines = (directory / "access.log").read_text().splitlines()
    first, second, third = map(json.loads, lines)
    assert first["variables"] == {"user": '\ufffd"'}
    assert "variables" not in second
    assert third["variables"]["user"] == "ann"
    assert third["variables"]["long"].endswith("x...")
    assert all(len(it) < 4096 for it in lines)


@pytest.mark.parametrize("limit", ["0", "60"])
def test_a_request_may_limit_its_own_time(start: Start, limit: str) -> None:
    with start("--request-timeout-seconds", limit, "--workers", "1") as bridge:
        bridge.wait_listening(1)
        overdue = request(
            bridge.address, "/?uwsgi.set_user_harakiri(1),wait_for('never')", timeout_seconds=30
        )
        assert overdue.status == 504
        event = bridge.events.wait(event="request took too long")
        assert event["seconds"] < 10
        assert "in wait_for" in event["stack"]
        bridge.events.wait(event="thread is free again")
        # Taken back, it limits nothing.
        assert (
            evaluate(
                bridge, "uwsgi.set_user_harakiri(1),uwsgi.set_user_harakiri(0),time.sleep(1.5)"
            )
            == "(None, None, None)"
        )
        # And the next request of the thread has no limit of the one before.
        assert evaluate(bridge, "uwsgi.set_user_harakiri(1)") == "None"
        assert evaluate(bridge, "time.sleep(1.5)") == "None"


def test_timers_run_in_one_process_across_a_reload(start: Start, directory: Path) -> None:
    (directory / "site_app.py").write_text(APPLICATION + TIMER)
    with start("--preload") as bridge:
        ticks = bridge.events.wait_many(2, event="sidecar wrote", sidecar="uwsgi-timers")
        ticks = told_by_timers(bridge, "app: ticks", 2)
        assert {(it["number"], it["wid"], it["mule"]) for it in ticks} == {(0, 0, 1)}
        [first] = {it["pid"] for it in ticks}
        [sidecar] = ask(directory / "control", "status")["sidecars"]
        assert (sidecar["name"], sidecar["pid"]) == ("uwsgi-timers", first)
        # What fails is told, and the others go on.
        bridge.events.wait(event="sidecar wrote", text="ValueError: out of order")
        bridge.events.wait(event="sidecar wrote", text="Error: broken failed")
        assert len(told_by_timers(bridge, "app: forked", 1)) == 1

        bridge.signal(signal.SIGHUP)
        bridge.events.wait(event="reloaded")
        second = bridge.events.wait_many(2, event="sidecar started")[1]["pid"]
        stopped = bridge.events.wait(event="sidecar stopped")["pid"]
        assert (stopped, second != first) == (first, True)
        steps = [it["event"] for it in bridge.events.find(sidecar="uwsgi-timers")]
        before_second = steps[: len(steps) - steps[::-1].index("sidecar started")]
        assert before_second.count("sidecar stopped") == 1
        deadline = time.monotonic() + EVENT_SECONDS
        while second not in {it["pid"] for it in told_by_timers(bridge, "app: ticks", 2)}:
            assert time.monotonic() < deadline
            bridge.events.wait_many(len(bridge.events.find(event="sidecar wrote")) + 1, event="sidecar wrote")  # fmt: skip
        assert bridge.stop() == 0
    assert not list(directory.glob("*.shared"))


def told_by_timers(bridge: BridgeProcess, event: str, count: int) -> list[dict[str, Any]]:
    """Give events that the application has written in the process of timers; wait for so many."""
    deadline = time.monotonic() + EVENT_SECONDS
    while True:
        lines = bridge.events.find(event="sidecar wrote", sidecar="uwsgi-timers")
        texts = [str(it["text"]) for it in lines]
        found = [json.loads(it) for it in texts if it.startswith("{")]
        found = [it for it in found if it["event"] == event]
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, bridge.events.text()
        bridge.events.wait_many(len(lines) + 1, event="sidecar wrote", sidecar="uwsgi-timers")


def test_without_timers_there_is_no_process_for_them(start: Start, directory: Path) -> None:
    with start() as bridge:
        bridge.wait_listening(1)
        assert ask(directory / "control", "status")["sidecars"] == []
        # A reload may bring some.
        (directory / "site_app.py").write_text(APPLICATION + TIMER)
        bridge.signal(signal.SIGHUP)
        bridge.events.wait(event="sidecar started", sidecar="uwsgi-timers")
        # And the next one may take them away.
        (directory / "site_app.py").write_text(APPLICATION)
        bridge.signal(signal.SIGHUP)
        bridge.events.wait_many(2, event="reloaded")
        bridge.events.wait(event="sidecar stopped", sidecar="uwsgi-timers")
        assert bridge.stop() == 0
        assert len(bridge.events.find(event="sidecar started")) == 1


def test_a_timer_that_runs_ends_before_the_next_process_starts(
    start: Start, directory: Path
) -> None:
    slow = """
@uwsgidecorators.timer(1)
def slow(number):
    tell("app: begins")
    wait_for("go")
    tell("app: ends")
"""
    (directory / "site_app.py").write_text(APPLICATION + slow)
    with start() as bridge:
        told_by_timers(bridge, "app: begins", 1)
        bridge.signal(signal.SIGHUP)
        bridge.events.wait(event="reloaded")
        assert len(bridge.events.find(event="sidecar started")) == 1
        (directory / "go").touch()
        told_by_timers(bridge, "app: ends", 1)
        bridge.events.wait_many(2, event="sidecar started")
        assert bridge.stop() == 0


def test_an_upgrade_leaves_one_process_of_timers_and_the_locks(
    start: Start, directory: Path
) -> None:
    (directory / "site_app.py").write_text(APPLICATION + TIMER)
    with start("--workers", "1") as bridge:
        first = bridge.events.wait(event="sidecar started")["pid"]
        told_by_timers(bridge, "app: ticks", 1)
        bridge.signal(signal.SIGUSR2)
        bridge.events.wait(event="reloaded")
        second = bridge.events.wait_many(2, event="sidecar started")[1]["pid"]
        assert bridge.events.wait(event="sidecar stopped")["pid"] == first
        [sidecar] = ask(directory / "control", "status")["sidecars"]
        assert (sidecar["name"], sidecar["pid"]) == ("uwsgi-timers", second)
        assert evaluate(bridge, "uwsgi.lock(), uwsgi.unlock()") == "(None, None)"
        assert [it["number"] for it in ask(directory / "control", "status")["workers"]][-1] == 1
        assert bridge.stop() == 0
    assert not bridge.events.find(level="error")


def test_a_request_that_waits_for_a_lock_can_be_over_its_time(
    start: Start, directory: Path
) -> None:
    with start("--workers", "1", "--threads", "2") as bridge:
        bridge.wait_listening(1)
        assert evaluate(bridge, "uwsgi.lock()") == "None"
        overdue = request(
            bridge.address, "/?uwsgi.set_user_harakiri(1),uwsgi.lock()", timeout_seconds=30
        )
        assert overdue.status == 504
        bridge.events.wait(event="thread is free again")
        # The one that was interrupted has nothing of the lock.
        assert evaluate(bridge, "uwsgi.unlock(), uwsgi.is_locked()") == "(None, False)"


def test_a_hook_that_fails_is_logged_and_the_worker_serves(start: Start, directory: Path) -> None:
    broken = (
        "def fail(): raise ValueError('no database')\nuwsgi.post_fork_hook = uwsgi.atexit = fail\n"
    )
    (directory / "site_app.py").write_text(APPLICATION + broken)
    with start("--workers", "1") as bridge:
        bridge.wait_listening(1)
        failed = bridge.events.wait(event="a hook of the module uwsgi failed")
        assert failed["hook"] == "post_fork_hook"
        assert "ValueError: no database" in failed["exception"]
        assert evaluate(bridge, "1") == "1"
        assert bridge.stop() == 0
        bridge.events.wait(event="a hook of the module uwsgi failed", hook="atexit")


def test_without_the_option_there_is_no_such_module(directory: Path) -> None:
    (directory / "site_app.py").write_text(APPLICATION)
    _, output = run_to_its_end(
        *("serve", "site_app:app", "--bind", "127.0.0.1:0", "--workers", "1"),
        directory=directory,
    )
    assert "ModuleNotFoundError: No module named 'uwsgi'" in output


def test_without_a_supervisor_it_is_refused(directory: Path) -> None:
    (directory / "site_app.py").write_text(APPLICATION)
    _, output = run_to_its_end(
        "serve", "site_app:app", "--workers", "0", "--uwsgi-module", directory=directory
    )
    assert "--uwsgi-module needs a supervisor: --workers 1 or more" in output
