"""A template, as it is started: what it inherits, what it imports, and which signals it outlives."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import trio

from tests.log_events import EVENT_SECONDS
from tests.nest import Nest
from uwsgibridge.supervisor.generation import Generation

LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_signals_to_all_are_for_the_supervisor(nest: Nest) -> None:
    async def whole(generation: Generation) -> None:
        everyone = [generation.template_pid]  # it has not begun to listen for any
        for _ in range(2):
            for pid in everyone:
                for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT):
                    os.kill(pid, number)
                for number in (signal.SIGTTIN, signal.SIGTTOU):
                    os.kill(pid, number)
            os.kill(generation.template_pid, signal.SIGTERM)
            os.kill(generation.template_pid, signal.SIGINT)
            [worker] = await nest.ready(generation)
            everyone.append(worker.pid)
        await worker.heartbeat(EVENT_SECONDS)
        assert worker.figures is not None
        # Its stacks can be told meanwhile, from outside as well.
        for pid in everyone:
            os.kill(pid, signal.SIGQUIT)
        with trio.fail_after(EVENT_SECONDS):
            # A dump waits for two seconds at the most, which a busy machine may not give it.
            while "Current thread" not in await worker.dump():
                pass
        assert nest.tally.crashed == 0

    nest.run(whole)


@LINUX_ONLY
def test_programs_of_the_application_inherit_nothing(nest: Nest) -> None:
    found = nest.directory / "found"
    nest.write(f"import os; os.system('ls -l /proc/self/fd > {found}')\n")

    async def whole(generation: Generation) -> None:
        await nest.ready(generation)

    nest.run(whole)

    descriptors = found.read_text()
    assert str(found) in descriptors
    assert "socket:" not in descriptors
    # Standard input and so on, which may be pipes, and the directory itself.
    assert len(descriptors.split("\n")) <= 1 + 4 + 1


def test_modules_in_the_current_directory_hide_none_of_ours(
    nest: Nest, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = nest.directory / "current"
    current.mkdir()
    for name in ("random", "socket", "json"):
        (current / f"{name}.py").write_text("raise RuntimeError('hidden')\n")
    monkeypatch.chdir(current)
    # As for a command that was not started with `python -m`.
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)

    async def whole(generation: Generation) -> None:
        await nest.ready(generation)

    nest.run(whole)


def test_a_template_that_can_not_be_started_leaves_nothing(
    nest: Nest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    files = sum(1 for _ in Path("/dev/fd").iterdir())

    async def whole() -> None:
        with pytest.RaisesGroup(FileNotFoundError):
            async with nest.generation():
                pass

    trio.run(whole)
    assert sum(1 for _ in Path("/dev/fd").iterdir()) == files
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
