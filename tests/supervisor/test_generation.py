"""A generation: a real template and its workers, and what their supervisor knows of them at each moment."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.log_events import EVENT_SECONDS, PATIENCE_SECONDS, LogEvents
from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.sockets import ListeningSocket, open_sockets
from uwsgibridge.link.messages import DUMP_SIGNAL
from uwsgibridge.supervisor import backoff
from uwsgibridge.supervisor.generation import Generation, GenerationContext, Tally
from uwsgibridge.supervisor.recycling import RecyclingPolicy
from uwsgibridge.supervisor.worker_process import WorkerProcess
from uwsgibridge.telemetry.logs import make_logger

LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

APPLICATION = """
def app(environ, start_response):
    start_response("200 OK", [])
    return []
"""

LIFESPAN = """
async def lifespan(scope, receive, send):
    for event in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{event}.complete"})

def app(*arguments):
    return lifespan(*arguments)
"""


Test = Callable[[Generation], Coroutine[Any, Any, None]]


class Nest:
    """What a supervisor has before it starts a generation.

    Attributes:
        directory: of the application `site:app`.
        log: of what happens to workers.
    """

    def __init__(self, directory: Path, sockets: list[ListeningSocket]) -> None:
        self.directory = directory
        self.log = LogEvents()
        self.tally = Tally()
        self._sockets = sockets
        self._changed = trio.Event()

    def write(self, text: str) -> None:
        (self.directory / "site_app.py").write_text(APPLICATION + text)

    def run(self, test: Test, **options: Any) -> None:
        """Run a test with a generation."""

        async def whole() -> None:
            async with self.generation(**options) as generation:
                await test(generation)

        trio.run(whole)

    @contextlib.asynccontextmanager
    async def generation(self, **options: Any) -> AsyncIterator[Generation]:
        """Start one; its processes are gone at the end."""
        lifeline, held = os.pipe()
        settings = Settings(app_dir=str(self.directory), loop="trio", workers=1, **options)
        async with trio.open_nursery() as nursery:
            context = GenerationContext(
                RecyclingPolicy(chance=random.Random(1)),
                make_logger("json", stream=self.log),
                self.tally,
                self._note_change,
                nursery,
            )
            try:
                generation = Generation.start(
                    3, "site_app:app", settings, self._sockets, lifeline, context
                )
                try:
                    yield generation
                finally:
                    generation.kill_workers()
                    with trio.CancelScope(shield=True):
                        await generation.end()
                        nursery.cancel_scope.cancel()
            finally:
                os.close(lifeline)
                os.close(held)

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, is_so: Callable[[], bool]) -> None:
        with trio.fail_after(EVENT_SECONDS):
            while not is_so():
                await self._changed.wait()

    async def ready(self, generation: Generation, count: int = 1) -> list[WorkerProcess]:
        """Have so many workers."""
        for _ in range(count - generation.expected):
            assert generation.fork()
        await self.until(lambda: len(generation.ready) == count)
        return generation.ready


@pytest.fixture
def nest(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nest]:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    # pytest's own paths may be too long for a unix socket.
    with (
        tempfile.TemporaryDirectory() as directory,
        open_sockets([f"unix:{directory}/s"], mode="0600", backlog=5) as sockets,
    ):
        nest = Nest(Path(directory), sockets)
        nest.write("")
        yield nest


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# Workers come and go.


@pytest.mark.parametrize("preload", [False, True])
def test_workers_are_forked_and_ready(nest: Nest, preload: bool) -> None:
    async def whole(generation: Generation) -> None:
        assert (generation.expected, generation.is_over) == (0, True)
        workers = await nest.ready(generation, 3)
        assert len({it.pid for it in workers} | {generation.template_pid, os.getpid()}) == 5
        assert (generation.expected, generation.is_over) == (3, False)
        assert generation.owing_seconds == 0
        await workers[0].heartbeat(PATIENCE_SECONDS)
        assert workers[0].figures is not None

    nest.run(whole, preload=preload)


def test_a_worker_that_is_stopped_is_no_crash(nest: Nest) -> None:
    async def whole(generation: Generation) -> None:
        [worker] = await nest.ready(generation)
        generation.stop_one()
        assert (generation.running, generation.is_over) == ([], False)
        await nest.until(lambda: generation.is_over)
        assert not is_alive(worker.pid)
        assert nest.tally.crashed == 0
        assert nest.log.find(event="worker ended") == []

    nest.run(whole)


# The last one has no name in Python.
@pytest.mark.parametrize(("number", "told"), [(signal.SIGKILL, "SIGKILL"), (40, 40)])
@LINUX_ONLY
def test_a_crash_is_told_with_its_signal(nest: Nest, number: int, told: str | int) -> None:
    async def whole(generation: Generation) -> None:
        [worker] = await nest.ready(generation)
        os.kill(worker.pid, number)
        await nest.until(lambda: generation.is_over)
        [event] = nest.log.find(event="worker ended")
        assert (event["worker"], event["signal"]) == (worker.pid, told)
        assert nest.tally.crashed == 1
        assert not generation.has_failed

    nest.run(whole)


def test_a_worker_that_never_was_ready_has_failed(nest: Nest, capfd: Any) -> None:
    nest.write("raise SystemExit(7)\n")

    async def whole(generation: Generation) -> None:
        assert generation.fork()
        await nest.until(lambda: generation.has_failed)
        assert (generation.failed_status, generation.is_over) == (3, True)

    nest.run(whole)

    assert "importing site_app failed" in capfd.readouterr().err


def test_workers_that_crash_one_after_the_other_are_told_from_one_that_crashes(
    nest: Nest, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However busy the machine is.
    monkeypatch.setattr(backoff, "_SHORT_LIFE_SECONDS", PATIENCE_SECONDS)

    async def whole(generation: Generation) -> None:
        for crash in range(1, 9):
            assert generation.backoff.reason == ""
            [worker] = await nest.ready(generation)
            if crash == 3:
                worker.stop()  # which is no crash
            else:
                os.kill(worker.pid, signal.SIGKILL)
            await nest.until(lambda: generation.is_over)
            if generation.backoff.reason:
                break
        assert crash == 7
        assert generation.backoff.reason.startswith("6 workers in a row")

    nest.run(whole)


def test_one_that_has_crashed_is_missed_when_it_is_known_how_soon_it_is_replaced(
    nest: Nest,
) -> None:
    async def whole(generation: Generation) -> None:
        [worker] = await nest.ready(generation)
        os.kill(generation.template_pid, signal.SIGSTOP)
        os.kill(worker.pid, signal.SIGKILL)
        await nest.until(lambda: worker.has_ended)
        assert (generation.ready, generation.expected) == ([], 1)
        os.kill(generation.template_pid, signal.SIGCONT)
        await nest.until(lambda: generation.expected == 0)

    nest.run(whole)


# Stopping.


# What the end of a worker may take: 7 s for its requests, and 60 s for each shutdown.
@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({"interface": "wsgi"}, 7),
        ({"interface": "asgi"}, 67),
        ({"interface": "asgi", "mount": ("/more=site_app:lifespan",)}, 127),
        ({"interface": "asgi", "lifespan": "off"}, 7),
        ({"mount": ("/more=site_app:lifespan",)}, 67),
    ],
)
@pytest.mark.parametrize("preload", [False, True])
def test_a_worker_tells_how_long_its_end_may_take(
    nest: Nest, options: dict[str, Any], seconds: float, preload: bool
) -> None:
    nest.write(LIFESPAN)

    async def whole(generation: Generation) -> None:
        [worker] = await nest.ready(generation)
        assert worker.end_seconds == seconds

    nest.run(whole, preload=preload, graceful_timeout_seconds=7, **options)


def test_what_is_forked_late_is_stopped_as_well(nest: Nest) -> None:
    async def whole(generation: Generation) -> None:
        [first] = await nest.ready(generation)
        os.kill(generation.template_pid, signal.SIGSTOP)
        assert generation.fork()
        generation.stop_workers()
        assert not generation.is_over
        os.kill(generation.template_pid, signal.SIGCONT)
        await nest.until(lambda: generation.is_over)
        assert not is_alive(first.pid)
        assert nest.tally.crashed == 0

    nest.run(whole)


def test_a_template_that_still_loads_is_not_waited_for(nest: Nest) -> None:
    nest.write("import threading; threading.Event().wait()\n")

    async def whole(generation: Generation) -> None:
        assert generation.fork()
        generation.stop_workers()
        await nest.until(lambda: generation.is_over)
        assert generation.has_ended

    nest.run(whole, preload=True)


def test_workers_that_are_in_a_hurry_do_not_drain(nest: Nest) -> None:
    async def whole(generation: Generation) -> None:
        [worker] = await nest.ready(generation)
        generation.stop_workers()
        generation.hurry_workers()
        await nest.until(lambda: generation.is_over)
        assert not is_alive(worker.pid)
        assert nest.log.find(event="worker ended") == []

    nest.run(whole, graceful_timeout_seconds=1000)


# The template.


def test_workers_outlive_their_template_and_their_end_is_noticed(nest: Nest) -> None:
    async def whole(generation: Generation) -> None:
        one, other = await nest.ready(generation, 2)
        os.kill(generation.template_pid, signal.SIGKILL)
        await nest.until(lambda: generation.has_ended)
        assert len(generation.ready) == 2
        os.kill(one.pid, signal.SIGKILL)
        await nest.until(lambda: len(generation.workers) == 1)
        [event] = nest.log.find(event="worker ended")
        assert (event["worker"], event["exit_status"]) == (one.pid, None)
        other.stop()
        await nest.until(lambda: generation.is_over)
        assert len(nest.log.find(event="worker ended")) == 1

    nest.run(whole)


def test_what_a_template_owed_is_not_expected_after_its_end(nest: Nest) -> None:
    async def whole(generation: Generation) -> None:
        os.kill(generation.template_pid, signal.SIGSTOP)
        assert generation.fork()
        assert generation.owing_seconds > 0
        os.kill(generation.template_pid, signal.SIGKILL)
        await nest.until(lambda: generation.has_ended)
        assert (generation.expected, generation.owing_seconds) == (0, 0)

    nest.run(whole)


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
def test_a_worker_outlives_all_signals_that_come_at_once(nest: Nest) -> None:
    nest.write(
        "import os, signal\n"
        "names = ('HUP', 'USR1', 'USR2', 'QUIT', 'TTIN', 'TTOU')\n"
        "numbers = [getattr(signal, f'SIG{name}') for name in names]\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, numbers)\n"
        "for number in numbers:\n"
        "    os.kill(os.getpid(), number)\n"
        "signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)\n"
    )

    async def whole(generation: Generation) -> None:
        [worker] = await nest.ready(generation)
        await worker.heartbeat(EVENT_SECONDS)
        assert worker.figures is not None
        assert nest.tally.crashed == 0

    nest.run(whole)


@LINUX_ONLY
def test_a_worker_that_has_just_been_forked_outlives_a_question_for_its_stacks(nest: Nest) -> None:
    forked, gate = nest.directory / "forked", nest.directory / "gate"
    os.mkfifo(forked)
    os.mkfifo(gate)
    # What the application does in each child, before anything of a worker is done there.
    nest.write(
        "import os\n"
        "def hold():\n"
        f"    open({str(forked)!r}, 'w').write(str(os.getpid()))\n"
        f"    open({str(gate)!r}).read()\n"
        "os.register_at_fork(after_in_child=hold)\n"
    )

    async def whole(generation: Generation) -> None:
        assert generation.fork()
        pid = int(await trio.to_thread.run_sync(forked.read_text))
        os.kill(pid, DUMP_SIGNAL)
        await trio.to_thread.run_sync(gate.write_text, "")
        await nest.until(lambda: bool(generation.ready))
        assert list(generation.workers) == [pid]
        assert nest.tally.crashed == 0

    nest.run(whole, preload=True)


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
