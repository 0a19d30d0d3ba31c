"""The supervisor as process 1 of a container: upgrades in place, and processes that stand still or lose their socket.

All tests share one deployment, whose installation is a copy that they may break.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pytest

import uwsgibridge
from integration.listening_sockets import LISTENING
from integration.workers import PATIENCE_SECONDS, Load, fetch, one_round, write
from uwsgibridge.testing import event_with

if TYPE_CHECKING:
    from uwsgibridge.testing import ComposeStack
    from uwsgibridge.testing.log_stream import LogEvent

# What the import starts, and what closes the listening sockets of a process when /held is asked for.
FIRST = f"""{LISTENING}
import multiprocessing
manager = multiprocessing.get_context("fork").Manager()
def wait():
    for number in list(listening()):
        os.close(number)
"""

# Each process of a container that has children: its number, and theirs.
TREE = """
import contextlib, glob
for path in glob.glob("/proc/[0-9]*/task"):
    pids = []
    with contextlib.suppress(OSError):
        for children in glob.glob(f"{path}/*/children"):
            pids += open(children).read().split()
    if pids:
        print(path.split("/")[2], *pids)
"""

# At the end of a file: what only the program that takes over comes to, and no rehearsal.
AS_THE_PROGRAM = """
import os
if "UWSGIBRIDGE_HERITAGE_FD" in os.environ: raise RuntimeError("broken today")
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the container has as /app: the application, and a copy of the package that Python takes first."""
    directory = tmp_path_factory.mktemp("processes")
    directory.chmod(0o755)
    write(directory, "one", FIRST)
    shutil.copytree(
        Path(uwsgibridge.__file__).parent,
        directory / "site" / "uwsgibridge",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    return directory


@pytest.fixture(scope="module")
def deployment(directory: Path, compose_stack) -> Iterator[ComposeStack]:
    """Two workers, over a unix socket; whatever happened, its stop is quick and in order."""
    stack = compose_stack(
        "versioned:wsgi",
        app_dir=directory,
        socket="unix",
        serve_args=("--workers", "2"),
        environment={"PYTHONPATH": "/app/site", "PYTHONSAFEPATH": "1"},
    )
    yield stack
    since, begun = len(stack.log_events()), monotonic()
    stack.compose("stop", "bridge")
    # Docker would have killed it after the 40 s of compose.yaml; managers hold up nothing.
    assert monotonic() - begun < PATIENCE_SECONDS
    assert stack.stop() == 0
    levels = {event.get("level") for event in stack.log_events(since=since)}
    assert not levels & {"error", "warning"}, stack.bridge_log


def in_container(deployment: ComposeStack, code: str) -> str:
    result = deployment.bridge.exec_run(["python", "-c", code])
    assert isinstance(result.output, bytes)
    assert result.exit_code == 0, result.output
    return result.output.decode()


def tree(deployment: ComposeStack) -> dict[int, set[int]]:
    """List the children of each process that has any."""
    lines = in_container(deployment, TREE).splitlines()
    return {int(pid): {int(it) for it in pids} for pid, *pids in map(str.split, lines)}


def settle(deployment: ComposeStack) -> tuple[int, dict[int, set[int]]]:
    """Wait until process 1 has one template with two workers, a manager each, and nothing else.

    Returns:
        The template, and what each worker has started.
    """
    deadline = monotonic() + PATIENCE_SECONDS
    while True:
        found = tree(deployment)
        [template, *others] = found.get(1, {0})
        workers = {pid: found.get(pid, set()) for pid in found.get(template, ())}
        have_managers = [len(pids) for pids in workers.values()] == [1, 1]
        if not others and have_managers and set(found) == {1, template, *workers}:
            return template, workers
        assert monotonic() < deadline, found
        sleep(0.05)


def send(deployment: ComposeStack, number: signal.Signals, *pids: int) -> None:
    in_container(deployment, f"import os; [os.kill(it, {number.value}) for it in {pids}]")


@contextlib.contextmanager
def broken(file: Path, text: str) -> Iterator[None]:
    before = file.read_text()
    file.write_text(text)
    try:
        yield
    finally:
        file.write_text(before)


def wait(deployment: ComposeStack, since: int, **fields: object) -> LogEvent:
    return deployment.wait_for_event(
        event_with(**fields), since=since, timeout_seconds=PATIENCE_SECONDS
    )


def upgrade(deployment: ComposeStack, event: str) -> LogEvent:
    since = len(deployment.log_events())
    deployment.bridge.kill(signal.SIGUSR2)
    return wait(deployment, since, event=event)


def test_an_upgrade_that_cannot_succeed_is_not_begun(deployment, directory):
    before = settle(deployment)
    file = directory / "site/uwsgibridge/supervisor/health.py"
    with (
        Load(deployment.url, threads=2, pause_seconds=0.05) as load,
        broken(file, "raise RuntimeError('broken today')\n"),
    ):
        event = upgrade(
            deployment, "upgrade failed: the program that is installed now does not start"
        )
    assert "broken today" in str(event["output"])
    assert settle(deployment) == before
    assert set(load.seen) == {"one"}


def test_a_program_that_dies_in_its_start_becomes_the_old_one(deployment, directory):
    before = settle(deployment)
    file = directory / "site/uwsgibridge/supervisor/heritage.py"
    with (
        Load(deployment.url, threads=2, pause_seconds=0.05) as load,
        broken(file, file.read_text() + AS_THE_PROGRAM),
    ):
        event = upgrade(deployment, "upgrade failed: the old program goes on")
    assert "broken today" in str(event["reason"])
    assert settle(deployment) == before
    assert set(load.seen) == {"one"}


def test_an_upgrade_keeps_the_container(deployment, directory):
    before = settle(deployment)
    started_at = deployment.bridge.attrs["State"]["StartedAt"]
    write(directory, "two", FIRST)
    with Load(deployment.url, threads=4) as load:
        upgrade(deployment, "reloaded")
    after = settle(deployment)
    assert not everybody(before) & everybody(after)
    assert set(load.seen) == {"one", "two"}
    assert set(one_round(deployment.url)) == {"two"}
    assert deployment.bridge.attrs["State"]["StartedAt"] == started_at
    write(directory, "one", FIRST)


def everybody(settled: tuple[int, dict[int, set[int]]]) -> set[int]:
    template, workers = settled
    return {template, *workers}.union(*workers.values())


def test_what_an_import_has_started_goes_with_a_worker_that_is_killed(deployment):
    """It becomes a child of process 1, which is the supervisor."""
    _, before = settle(deployment)
    since = len(deployment.log_events())
    send(deployment, signal.SIGKILL, victim := min(before))
    wait(deployment, since, event="worker ended", worker=victim)
    _, after = settle(deployment)
    assert not before[victim] & set().union(*after.values())
    assert len(set(before) & set(after)) == 1


def test_a_template_that_stands_still_is_replaced(deployment):
    """What its workers had started, which it does not see to any more, goes with them."""
    template, workers = settle(deployment)
    since = len(deployment.log_events())
    send(deployment, signal.SIGSTOP, template)
    send(deployment, signal.SIGKILL, *workers)
    for pid in workers:
        wait(deployment, since, event="worker ended", worker=pid)
    wait(deployment, since, event="killing template: it does not fork", template=template)
    wait(deployment, since, event="reloaded")
    assert settle(deployment)[0] != template
    assert one_round(deployment.url)


def test_a_worker_whose_socket_is_closed_is_replaced(deployment, directory):
    # A worker keeps what it has imported: whatever the tests before have written, all have the same from here on.
    write(directory, "one", FIRST)
    since = len(deployment.log_events())
    deployment.bridge.kill(signal.SIGHUP)
    wait(deployment, since, event="reloaded")
    settle(deployment)
    since = len(deployment.log_events())
    _, pid = fetch(f"{deployment.url}/held")
    event = wait(deployment, since, event="stopping to be started again", worker=pid)
    assert "has the application closed it?" in str(event["reason"])
    assert pid not in settle(deployment)[1]
    assert set(one_round(deployment.url)) == {"one"}
