"""A generation: a real template and its workers, and what their supervisor knows of them at each moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest
import trio

from tests.log_events import EVENT_SECONDS, PATIENCE_SECONDS
from tests.nest import Nest
from uwsgibridge.errors import EXIT_FAILURE
from uwsgibridge.link.messages import DUMP_SIGNAL, Report, ReportEvent
from uwsgibridge.supervisor import backoff
from uwsgibridge.supervisor import generation as generation_module
from uwsgibridge.supervisor.generation import Generation

LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

LIFESPAN = """
async def lifespan(scope, receive, send):
    for event in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{event}.complete"})

def app(*arguments):
    return lifespan(*arguments)
"""


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


@pytest.mark.parametrize("preload", [False, True])
def test_code_that_does_not_load_is_no_crash(nest: Nest, preload: bool, capfd: Any) -> None:
    """It is a failed reload, which has a count of its own."""
    nest.write("import there_is_no_such_module\n")

    async def whole(generation: Generation) -> None:
        assert generation.fork()
        await nest.until(lambda: generation.has_failed and generation.is_over)
        assert nest.tally.crashed == 0
        assert not nest.tally.counted.named.get("restart/crashed")

    nest.run(whole, preload=preload)
    assert "there_is_no_such_module" in capfd.readouterr().err


@pytest.mark.parametrize(
    "ends", ["__import__('os').kill(__import__('os').getpid(), 9)", "__import__('os')._exit(1)"]
)
def test_a_crash_as_the_code_is_loaded_is_one(nest: Nest, ends: str) -> None:
    nest.write(f"{ends}\n")

    async def whole(generation: Generation) -> None:
        assert generation.fork()
        await nest.until(lambda: generation.has_failed and generation.is_over)
        assert nest.tally.crashed == 1

    nest.run(whole)


def test_code_that_does_not_load_any_more_in_a_service_that_runs_counts(nest: Nest) -> None:
    """A half of a deployment, which workers that are replaced load."""

    async def whole(generation: Generation) -> None:
        await nest.ready(generation)
        nest.write("import there_is_no_such_module\n")
        assert generation.fork()
        await nest.until(lambda: generation.has_failed)
        assert nest.tally.crashed == 1

    nest.run(whole)


def test_a_worker_that_never_was_ready_has_failed(nest: Nest, capfd: Any) -> None:
    nest.write("raise SystemExit(7)\n")

    async def whole(generation: Generation) -> None:
        assert generation.fork()
        await nest.until(lambda: generation.has_failed)
        assert (generation.failed_status, generation.is_over) == (3, True)

    nest.run(whole)

    assert "importing site_app failed" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("reported", "failed_status"), [((), EXIT_FAILURE), ((3, 1), 3)], ids=["none", "some"]
)
def test_the_first_failure_counts_also_where_the_template_does_not_tell_a_later_one(
    nest: Nest, monkeypatch: pytest.MonkeyPatch, reported: tuple[int, ...], failed_status: int
) -> None:
    nest.write("import signal\nsignal.pause()\n")  # so that the worker is never ready
    monkeypatch.setattr(generation_module, "_REPORT_SECONDS", 0.01)

    async def whole(generation: Generation) -> None:
        for status in reported:  # of workers that have ended right after their fork
            generation._handle_report(Report(ReportEvent.EXITED, 0, status), [])
        assert generation.fork()
        await nest.until(lambda: len(generation.workers) == 1)
        [worker] = generation.workers.values()
        os.kill(generation.template_pid, signal.SIGSTOP)
        try:
            os.kill(worker.pid, signal.SIGKILL)
            await nest.until(lambda: not generation.workers)
            assert generation.has_failed
            assert generation.failed_status == failed_status
        finally:
            os.kill(generation.template_pid, signal.SIGCONT)

    nest.run(whole)


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


def test_a_worker_that_there_are_no_descriptors_for_is_killed_and_the_limit_is_named(
    nest: Nest,
) -> None:
    with subprocess.Popen(["sleep", str(PATIENCE_SECONDS)]) as forked:

        async def whole(generation: Generation) -> None:
            generation._handle_report(Report(ReportEvent.FORKED, forked.pid), [])
            assert generation.workers == {}

        nest.run(whole)
        assert forked.wait(PATIENCE_SECONDS) == -signal.SIGKILL

    (event,) = nest.log.find(level="error")
    assert event["event"] == "killing worker: there are too many open files to accompany it"
    assert event["hint"] == "raise the limit on open files (ulimit -n)"


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
        assert generation.template_has_ended

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
        await nest.until(lambda: generation.template_has_ended)
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
        await nest.until(lambda: generation.template_has_ended)
        assert (generation.expected, generation.owing_seconds) == (0, 0)

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
