"""Several workers behind an Nginx: replaced, reloaded, drained, and never a request lost on the way."""

from __future__ import annotations

import os
import signal

import pytest

from integration.workers import (
    EVERY_INTERFACE,
    EVERY_SOCKET,
    distinct_workers,
    fetch,
    one_round,
    workers,
)
from tests.processes import wait_gone
from uwsgibridge.testing import BridgeProcess, StackError, event_with


@EVERY_INTERFACE
def test_several_processes_answer_and_none_of_them_is_the_supervisor(tmp_path, interface):
    with workers(tmp_path, "unix", interface) as stack:
        pids = distinct_workers(stack, 2)
        assert len(pids) == 2
        assert stack.pid not in pids
        assert stack.stop() == 0
        assert all(wait_gone(pid, 5) for pid in pids)


@EVERY_SOCKET
def test_killed_worker_is_replaced(tmp_path, kind_of_socket):
    with workers(tmp_path, kind_of_socket) as stack:
        for _ in range(3):
            victim = fetch(stack.url)[1]
            since = len(stack.log_events())
            os.kill(victim, signal.SIGKILL)
            event = stack.bridge.wait_for_event(event_with(event="worker ended"), since=since)
            assert (event["worker"], event["signal"]) == (victim, "SIGKILL")
            pids = distinct_workers(stack, 2)
            assert len(pids) == 2
            assert victim not in pids


def test_signals_add_and_take_away_a_worker(tmp_path):
    with workers(tmp_path) as stack:
        stack.bridge.signal(signal.SIGTTIN)
        stack.bridge.wait_for_event(event_with(workers=3))
        assert len(distinct_workers(stack, 3)) == 3
        since = len(stack.log_events())
        stack.bridge.signal(signal.SIGTTOU)
        stack.bridge.wait_for_event(event_with(workers=2), since=since)
        stack.bridge.wait_for_event(event_with(event="stopped"), since=since)
        assert set(one_round(stack.url)) == {"one"}


def test_workers_end_when_their_supervisor_is_killed(tmp_path):
    with workers(tmp_path) as stack:
        pids = distinct_workers(stack, 2)
        os.kill(stack.pid, signal.SIGKILL)
        assert all(wait_gone(pid, 10) for pid in pids)


@pytest.mark.parametrize("arguments", [(), ("--preload",)])
def test_application_that_can_not_be_loaded_is_said_once(tmp_path, arguments):
    (tmp_path / "broken.py").write_text("raise RuntimeError('never')\n")
    process = BridgeProcess(
        *("broken:app", "--app-dir", str(tmp_path), "--bind", f"unix:{tmp_path}/app.sock"),
        *("--workers", "3", *arguments),
    )
    with pytest.raises(StackError) as caught:
        process.start()
    assert caught.value.exit_status == 3
    # Nothing but the application's own traceback, and a sentence.
    first, *_, failure, sentence = caught.value.log.splitlines()
    assert first == "Traceback (most recent call last):"
    assert (failure, sentence) == ("RuntimeError: never", "Error: importing broken failed")
    assert caught.value.log.count("RuntimeError: never") == 1
    assert not (tmp_path / "app.sock").exists()


@pytest.mark.parametrize(("arguments", "loads"), [((), 2), (("--preload",), 1)])
def test_preloaded_application_is_imported_once(tmp_path, capfd, arguments, loads):
    with workers(tmp_path, "unix", "wsgi", *arguments) as stack:
        assert len(distinct_workers(stack, 2)) == 2
    assert capfd.readouterr().out.count("loaded by") == loads
