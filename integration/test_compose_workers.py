"""Several workers in the project's own container, where the supervisor is process 1."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError, URLError

import pytest

from integration.workers import Load, fetch, write
from uwsgibridge.testing import event_with

# Where nobody is, a connection is refused, or not answered.
NOT_THERE = {"status 502", "status 504"}

# Leaves a process that has ended behind, whose parent has ended before it.
ORPHAN = """
import os, time
if os.fork() == 0:
    if os.fork() == 0:
        time.sleep(0.05)
    os._exit(0)
os.wait()
"""


class TimedLoad(Load):
    """Notes when each request began."""

    def __init__(self, url: str, threads: int = 32) -> None:
        super().__init__(url, threads)
        self.requests: list[tuple[float, str]] = []

    def _once(self) -> None:
        began = time.monotonic()
        try:
            outcome = fetch(self._url)[0]
        except HTTPError as error:
            outcome = f"status {error.code}"
            error.close()
        except (URLError, OSError) as error:
            outcome = repr(error)
        self.requests.append((began, outcome))

    def failures(self) -> list[tuple[float, str]]:
        return [(began, outcome) for began, outcome in self.requests if outcome != "one"]


@pytest.fixture(params=["tcp", "unix"])
def deployment(request, tmp_path_factory, compose_stack):
    directory = tmp_path_factory.getbasetemp() / "compose-workers"
    directory.mkdir(mode=0o755, exist_ok=True)
    write(directory, "one")
    running = compose_stack(
        "versioned:wsgi", app_dir=directory, socket=request.param, serve_args=("--workers", "2")
    )
    yield running
    running.wait_until_up()


def held_by(report) -> int:
    counts = report.get("held_more", 0), report.get("held_connections", 0)
    return len(report.get("held", ())) + sum(counts)


def in_container(deployment, code: str) -> str:
    result = deployment.bridge.exec_run(["python", "-c", code])
    assert result.exit_code == 0, result.output.decode()
    return result.output.decode()


def test_a_stop_under_load_lets_requests_end(deployment):
    with TimedLoad(deployment.url) as load, ThreadPoolExecutor() as pool:
        before = len(deployment.log_events())
        began_to_stop = time.monotonic()
        stopping = pool.submit(deployment.compose, "stop", "bridge")
        deployment.wait_for_event(event_with(event="stopped"), since=before, timeout_seconds=30)
        stopping.result(60)
    assert {outcome for _, outcome in load.failures()} <= NOT_THERE
    assert all(began > began_to_stop - 0.001 for began, _ in load.failures())
    assert len(load.requests) > len(load.failures())
    state = deployment.bridge.attrs["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)


def test_a_killed_worker_costs_what_it_held(deployment):
    since = len(deployment.log_events())
    reports = []
    with TimedLoad(deployment.url) as load:
        for _ in range(3):
            victim = fetch(deployment.url)[1]
            before = len(deployment.log_events())
            in_container(deployment, f"import os; os.kill({victim}, {signal.SIGKILL.value})")
            reports.append(
                deployment.wait_for_event(event_with(event="worker ended"), since=before)
            )
    assert len(load.failures()) <= sum(map(held_by, reports))
    assert {outcome for _, outcome in load.failures()} <= {"status 502"}
    assert (
        len([it for it in deployment.log_events(since=since) if it["event"] == "worker ended"]) == 3
    )


def test_a_reload_by_a_signal_to_the_container_loses_nothing(deployment):
    with TimedLoad(deployment.url) as load:
        before = len(deployment.log_events())
        deployment.bridge.kill(signal.SIGHUP)
        deployment.wait_for_event(event_with(event="reloaded"), since=before, timeout_seconds=30)
    assert load.failures() == []


def test_orphans_are_reaped(deployment):
    states = "import glob; print([open(it).read().split(')')[1].split()[0] for it in glob.glob('/proc/[0-9]*/stat')])"
    for _ in range(3):
        in_container(deployment, ORPHAN)
    deadline = time.monotonic() + 10
    while "Z" in in_container(deployment, states):
        assert time.monotonic() < deadline, "a zombie stays"


def test_workers_by_default_are_as_many_as_the_quota_of_the_container_allows(deployment):
    def workers_with(cpus: float) -> str:
        output = deployment.bridge.client.containers.run(
            deployment.bridge.attrs["Image"],
            ["-c", "from uwsgibridge.config.settings import Settings; print(Settings().workers)"],
            entrypoint=["python"],
            nano_cpus=round(cpus * 1e9),
            remove=True,
        )
        return output.decode().strip()

    assert workers_with(0.5) == "1"
    assert workers_with(1.5) == "2"
