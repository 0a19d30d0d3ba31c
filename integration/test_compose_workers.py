"""Several workers in the project's own container, where the supervisor is process 1."""

from __future__ import annotations

import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from integration.crash_report import count_held
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


def failures_of(load):
    return [it for it in load.outcomes if it.what != "one"]


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


def in_container(deployment, code):
    result = deployment.bridge.exec_run(["python", "-c", code])
    assert result.exit_code == 0, result.output.decode()
    return result.output.decode()


def test_a_stop_under_load_lets_requests_end(deployment):
    with Load(deployment.url, threads=32) as load, ThreadPoolExecutor() as pool:
        before = len(deployment.log_events())
        began_to_stop = time.monotonic()
        stopping = pool.submit(deployment.compose, "stop", "bridge")
        deployment.wait_for_event(event_with(event="stopped"), since=before, timeout_seconds=30)
        stopping.result(60)
    failures = failures_of(load)
    assert {it.what for it in failures} <= NOT_THERE
    assert [it for it in failures if it.begun_at <= began_to_stop] == []
    assert len(load.outcomes) > len(failures)
    state = deployment.bridge.attrs["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["workers", "preload"])
def test_a_stop_of_one_of_two_containers_loses_nothing(tmp_path_factory, compose_stack, preload):
    directory = tmp_path_factory.mktemp("two")
    directory.chmod(0o755)
    write(directory, "one")
    stack = compose_stack(
        "versioned:wsgi", app_dir=directory, serve_args=("--workers", "2", *preload)
    )
    stack.compose("up", "--detach", "--no-build", "--wait", "--scale", "bridge=2")
    first = stack.bridge
    with Load(stack.url, threads=16, pause_seconds=0.0, body=b"x" * 100) as load:
        wait_both(stack)
        first.stop()
    stack.stop()
    assert load.seen == {"one": len(load.outcomes)}


def wait_both(stack):
    """Wait until Nginx has sent requests to both: it asks again after some seconds where they are."""
    deadline = time.monotonic() + 30
    while len(set(re.findall(r" (\S+:3031) ", stack.nginx_log))) < 2:
        assert time.monotonic() < deadline


def test_a_killed_worker_costs_what_it_held(deployment):
    since = len(deployment.log_events())
    reports = []
    with Load(deployment.url, threads=32) as load:
        for _ in range(3):
            victim = fetch(deployment.url)[1]
            before = len(deployment.log_events())
            in_container(deployment, f"import os; os.kill({victim}, {signal.SIGKILL.value})")
            reports.append(
                deployment.wait_for_event(event_with(event="worker ended"), since=before)
            )
    failures = failures_of(load)
    assert len(failures) <= sum(map(count_held, reports))
    assert {it.what for it in failures} <= {"status 502"}
    assert (
        len([it for it in deployment.log_events(since=since) if it["event"] == "worker ended"]) == 3
    )


def test_a_reload_by_a_signal_to_the_container_loses_nothing(deployment):
    with Load(deployment.url, threads=32) as load:
        before = len(deployment.log_events())
        deployment.bridge.kill(signal.SIGHUP)
        deployment.wait_for_event(event_with(event="reloaded"), since=before, timeout_seconds=30)
    assert failures_of(load) == []


def test_orphans_are_reaped(deployment):
    states = "import glob; print([open(it).read().split(')')[1].split()[0] for it in glob.glob('/proc/[0-9]*/stat')])"
    for _ in range(3):
        in_container(deployment, ORPHAN)
    deadline = time.monotonic() + 10
    while "Z" in in_container(deployment, states):
        assert time.monotonic() < deadline, "a zombie stays"


def test_workers_by_default_are_as_many_as_the_quota_of_the_container_allows(deployment):
    def workers_with(cpus):
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
