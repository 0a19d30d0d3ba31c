"""The trial run of a program that is to take over: what comes of it, and that it can be ended."""

from __future__ import annotations

import os
import signal
import sys

import pytest
import trio
import trio.testing

from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.supervisor.heritage import FORM
from uwsgibridge.supervisor.rehearsal import Rehearsal
from uwsgibridge.system.signals import SERVER_SIGNALS


def run(
    monkeypatch: pytest.MonkeyPatch, code: str, seconds: float = PATIENCE_SECONDS
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", code])

    async def whole() -> tuple[int, str]:
        with trio.fail_after(PATIENCE_SECONDS):
            return await Rehearsal({}, seconds).wait()

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


def test_a_program_that_does_nothing_has_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "") == (1, "it ended without having done anything")
    word = (
        "import os; "
        "from uwsgibridge.supervisor.rehearsal import Part; "
        "Part.from_environment().say_done(); "
        "print(sorted(it for it in os.environ if 'REHEARSAL' in it))"
    )
    assert run(monkeypatch, word) == (0, "[]\n")


def test_what_it_leaves_running_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    leaving = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid); sys.exit(3)"
    status, output = run(monkeypatch, leaving)
    os.kill(int(output), signal.SIGKILL)
    assert status == 3


def test_signals_to_all_are_not_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    _, output = run(
        monkeypatch, "import signal; print(*map(int, signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
    )
    assert {int(it) for it in output.splitlines()[0].split()} >= SERVER_SIGNALS
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_it_is_ended_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "import time; time.sleep(600)"])

    async def whole() -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            trial = Rehearsal({}, PATIENCE_SECONDS)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trial.wait)
                await trio.testing.wait_all_tasks_blocked()
                trial.break_off()
            trial.break_off()  # has nothing more to end

    trio.run(whole)


def test_it_may_not_take_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    status, output = run(monkeypatch, "import time; time.sleep(600)", 0.01)
    assert status == 1
    assert "timed out" in output


def test_no_python_is_there_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])

    async def whole() -> None:
        Rehearsal({}, PATIENCE_SECONDS)

    with pytest.raises(FileNotFoundError):
        trio.run(whole)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
