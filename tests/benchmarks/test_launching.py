"""A server under test is started by the table's options alone, whatever the environment says."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from benchmarks.launching import Bench, launched, server_environment
from benchmarks.placement import Placement
from benchmarks.server_table import SERVERS


def test_variables_that_would_change_a_server_are_dropped_and_all_others_kept() -> None:
    environ = {
        "PATH": "/bin",
        "HOME": "/home/me",
        "WEB_CONCURRENCY": "4",
        "UWSGI_PROCESSES": "4",
        "GUNICORN_CMD_ARGS": "--workers 4",
        "UVICORN_WORKERS": "4",
        "UWSGIBRIDGE_WORKERS": "4",
        "GRANIAN_WORKERS": "4",
        "PYTHONDONTWRITEBYTECODE": "1",
        "UWSGIBRIDGE_PURE": "1",
    }
    assert server_environment(environ) == {
        "PATH": "/bin",
        "HOME": "/home/me",
        "UWSGIBRIDGE_PURE": "1",
    }


def test_another_checkout_runs_its_own_bridge_and_the_applications_of_this_benchmark(
    directory: Path,
) -> None:
    checkout = directory / "checkout"
    (checkout / "uwsgibridge").mkdir(parents=True)
    (checkout / "uwsgibridge" / "__init__.py").write_text("")
    (checkout / "uwsgibridge" / "__main__.py").write_text(
        "import benchmarks.apps.plain, pathlib, time\n"
        "print('found', pathlib.Path(__file__).parents[1], flush=True)\n"
        "time.sleep(60)\n"
    )
    server = replace(
        next(it for it in SERVERS if it.is_bridge), checkout=checkout, ready_text="found"
    )
    bench = Bench(
        root=Path(__file__).resolve().parents[2],
        directory=directory / "bench",
        wrk="wrk",
        nginx_port=1,
        endpoints={server.name: "127.0.0.1:1"},
        backlog=1,
        placement=Placement(frozenset(os.sched_getaffinity(0)), frozenset()),
    )
    bench.directory.mkdir()
    bench.prepare()
    with launched(bench, server, "plain", 1) as process:
        assert process.log_tail == f"found {checkout}"
