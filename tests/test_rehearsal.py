"""The trial run of a program that is to take over: what comes of it, and that it can be ended."""

from __future__ import annotations

import signal
import sys

import pytest
import trio
import trio.testing

from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.server_signals import SERVER_SIGNALS
from uwsgibridge.supervisor import rehearsal
from uwsgibridge.supervisor.heritage import FORM
from uwsgibridge.supervisor.rehearsal import Rehearsal


def run(monkeypatch: pytest.MonkeyPatch, code: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", code])

    async def whole() -> tuple[int, str]:
        with trio.fail_after(PATIENCE_SECONDS):
            return await Rehearsal().wait()

    return trio.run(whole)


def test_its_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    status, output = run(
        monkeypatch,
        "import os, sys; print('x' * 5000, flush=True); "
        "sys.exit('no: ' + os.environ['UWSGIBRIDGE_REHEARSAL'] + sys.stdin.read())",
    )
    assert status == 1
    assert len(output) == 2000
    assert output.endswith(f"x\nno: {FORM}\n")
    assert run(monkeypatch, "") == (0, "")


def test_signals_to_all_are_not_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    _, output = run(
        monkeypatch, "import signal; print(*map(int, signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
    )
    assert {int(it) for it in output.split()} >= SERVER_SIGNALS
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_it_is_ended_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "import time; time.sleep(600)"])

    async def whole() -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            trial = Rehearsal()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trial.wait)
                await trio.testing.wait_all_tasks_blocked()
                trial.break_off()
            trial.break_off()  # has nothing more to end

    trio.run(whole)


def test_it_may_not_take_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "_REHEARSAL_SECONDS", 0.01)
    status, output = run(monkeypatch, "import time; time.sleep(600)")
    assert status == 1
    assert "timed out" in output


def test_no_python_is_there_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with pytest.raises(FileNotFoundError):
        Rehearsal()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
