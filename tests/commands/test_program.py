"""A program beside this process: real ones, with real signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.commands.pids import PIDS_OF_PROGRAMS
from uwsgibridge.commands.program import Program
from uwsgibridge.config.commands import Command
from uwsgibridge.system.process_group import members_of

Scene = Callable[[Program, list[tuple[str, str]]], Awaitable[None]]


def command(script: str, *arguments: str) -> Command:
    words = (sys.executable, "-u", "-c", script, *arguments)
    return Command("--sidecar", " ".join(words), words)


def play(what: Command, scene: Scene | None = None, *, grace_seconds: float = 5.0) -> Program:
    """Run a program to its end, with a scene beside it."""
    lines: list[tuple[str, str]] = []

    async def main() -> Program:
        with trio.fail_after(PATIENCE_SECONDS):
            program = Program.start(
                what,
                tell=lambda stream, line: lines.append((stream, line)),
                grace_seconds=grace_seconds,
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(program.watch)
                if scene is not None:
                    await scene(program, lines)
                await program.ended.wait()
        return program

    return trio.run(main)


async def until_said(lines: list[tuple[str, str]], count: int) -> None:
    while len(lines) < count:
        await trio.lowlevel.checkpoint()


def test_its_lines_and_its_status_are_told() -> None:
    told: list[tuple[str, str]] = []

    async def scene(program: Program, lines: list[tuple[str, str]]) -> None:
        assert program.pid in PIDS_OF_PROGRAMS
        await program.ended.wait()
        told.extend(lines)

    script = "import sys; print('one'); print('two', file=sys.stderr); sys.stdout.write('three'); sys.exit(7)"
    program = play(command(script), scene)
    assert program.status == 7
    assert sorted(told) == [("stderr", "two"), ("stdout", "one"), ("stdout", "three")]
    assert "three" in str(program.last_lines)
    assert program.pid not in PIDS_OF_PROGRAMS


def test_it_gets_the_environment_and_nothing_of_what_is_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SHOP", "open")
    monkeypatch.chdir(tmp_path)
    told: list[str] = []

    async def scene(program: Program, lines: list[tuple[str, str]]) -> None:
        await program.ended.wait()
        told.extend(line for _, line in lines)

    script = """
import json, os, signal, stat, sys
opened = [int(it) for it in os.listdir("/proc/self/fd")]
sockets = [it for it in opened if os.path.exists(f"/proc/self/fd/{it}") and stat.S_ISSOCK(os.fstat(it).st_mode)]
blocked = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))
ignored = [it for it in signal.valid_signals() if signal.getsignal(it) == signal.SIG_IGN]
print(json.dumps([os.environ["SHOP"], os.getcwd(), sys.stdin.read(), sockets, blocked, os.getsid(0) == os.getpid()]))
"""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        os.set_inheritable(listening.fileno(), True)
        program = play(command(script), scene)
    assert program.status == 0, told
    assert json.loads(told[0]) == ["open", str(tmp_path), "", [], [], True]


def test_a_program_that_is_not_there_leaves_nothing_open() -> None:
    before = count_files()
    with pytest.raises(FileNotFoundError):
        Program.start(Command("--sidecar", "nowhere", ("/nowhere",)), tell=print, grace_seconds=1)
    assert count_files() == before
    assert not PIDS_OF_PROGRAMS


def test_all_that_it_has_opened_is_closed_at_its_end() -> None:
    before = count_files()
    play(command("pass"))
    assert count_files() == before


def test_terminate_asks_and_kill_does_not() -> None:
    script = """
import signal, sys
def end(*_):
    print("asked")
    sys.exit(3)
signal.signal(signal.SIGTERM, end)
print("up")
signal.pause()
"""

    async def ask(program: Program, lines: list[tuple[str, str]]) -> None:
        await until_said(lines, 1)
        program.terminate()

    async def kill(program: Program, lines: list[tuple[str, str]]) -> None:
        await until_said(lines, 1)
        program.kill()

    assert play(command(script), ask).status == 3
    assert play(command(script), kill).status == -signal.SIGKILL


def count_files() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


# The first process ends at SIGTERM; what it has started says so, ends later, or never.
FAMILY = """
import os, signal, subprocess, sys, time
child = '''
import signal, sys, time
def end(*_):
    print("child was asked")
    if {stubborn}: return
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("child is up")
while True: signal.pause()
'''
subprocess.Popen([sys.executable, "-u", "-c", child.replace("{stubborn}", sys.argv[1])])
signal.pause()
"""


@pytest.mark.parametrize(("stubborn", "grace_seconds"), [("False", 60.0), ("True", 0.2)])
def test_what_it_has_started_ends_before_it_has_ended(stubborn: str, grace_seconds: float) -> None:
    told: list[str] = []

    async def scene(program: Program, lines: list[tuple[str, str]]) -> None:
        await until_said(lines, 1)
        assert len(members_of(program.pid)) == 2
        program.terminate()
        await program.ended.wait()
        assert members_of(program.pid) == []
        told.extend(line for _, line in lines)

    program = play(command(FAMILY, stubborn), scene, grace_seconds=grace_seconds)
    assert program.status == -signal.SIGTERM
    assert told == ["child is up", "child was asked"]


def test_kill_ends_the_whole_group() -> None:
    async def scene(program: Program, lines: list[tuple[str, str]]) -> None:
        await until_said(lines, 1)
        program.kill()
        await program.ended.wait()
        assert members_of(program.pid) == []

    play(command(FAMILY, "True"), scene, grace_seconds=60.0)


def test_a_daemon_that_holds_its_output_does_not_hold_its_end() -> None:
    script = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
print(child.pid)
"""
    pids: list[int] = []

    async def scene(program: Program, lines: list[tuple[str, str]]) -> None:
        await program.ended.wait()
        pids.append(int(lines[0][1]))

    try:
        assert play(command(script), scene).status == 0
        os.kill(pids[0], 0)  # it runs
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def test_another_program_of_this_process_takes_it_over() -> None:
    lines: list[str] = []

    def tell(_stream: str, line: str) -> None:
        lines.append(line)

    async def main() -> None:
        script = "import sys; sys.stdout.write('be'); sys.stdin.read(); import signal; signal.sigwait([signal.SIGUSR1]); print('gun'); sys.exit(5)"
        blocked = (
            "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]);" + script
        )
        program = Program.start(command(blocked), tell=tell, grace_seconds=1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(program.watch)
            while program._splitters["stdout"].begun != b"be":
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        heritage = json.loads(json.dumps(program.bequeath()))
        assert not PIDS_OF_PROGRAMS
        again = Program.adopt(heritage, tell=tell, grace_seconds=1)
        os.kill(again.pid, signal.SIGUSR1)
        with trio.fail_after(PATIENCE_SECONDS):
            await again.watch()
        assert (again.status, lines) == (5, ["begun"])

    trio.run(main)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does it")
def test_it_is_killed_with_its_starter() -> None:
    starter = """
import sys, trio
from uwsgibridge.commands.program import Program
from uwsgibridge.config.commands import Command
words = (sys.executable, "-c", "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()")
async def main():
    def tell(*_):
        print(program.pid, flush=True)
    program = Program.start(Command("--sidecar", "", words), tell=tell, grace_seconds=1)
    await program.watch()
trio.run(main)
"""
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        watched = os.pidfd_open(pid)
        process.kill()
    try:

        async def wait() -> None:
            with trio.fail_after(PATIENCE_SECONDS):
                await trio.lowlevel.wait_readable(watched)

        trio.run(wait)
    finally:
        os.close(watched)
