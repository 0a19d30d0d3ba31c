"""A supervisor that only pretends, behind a real control socket in a thread of its own."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import trio
import trio.testing

from tests.log_events import PATIENCE_SECONDS, LogEvents
from uwsgibridge.control.commands import CommandFailed
from uwsgibridge.control.server import serve_control
from uwsgibridge.telemetry.logs import make_logger

WORKER: dict[str, Any] = {
    "pid": 12,
    "generation": 3,
    "state": "ready",
    "age_seconds": 12.0,
    "requests": 100,
    "app_errors": 1,
    "client_gone": 0,
    "refused": {},
    "in_flight": 2,
    "capacity": 8,
    "websockets": 0,
    "rss_bytes": 12_345_678,
    "cpu_seconds": 1.2,
    "heartbeat_seconds_ago": 0.4,
    "queue_seconds": 0.001,
}
UNKNOWN_WORKER: dict[str, Any] = {**dict.fromkeys(WORKER), "pid": 13, "state": "starting"}
REQUESTS: list[dict[str, Any]] = [
    {
        "pid": 13,
        "generation": 3,
        "age_seconds": None,
        "phase": "stuck",
        "method": "GET",
        "path": "/loop",
        "application": None,
        "mount": None,
        "thread": None,
        "task": None,
        "request_id": None,
    },
    {
        "pid": 12,
        "generation": 3,
        "age_seconds": 75.5,
        "phase": "application",
        "method": "POST",
        "path": "/orders/\x1b[2Jnew",
        "application": "shop.wsgi",
        "mount": "",
        "thread": "wsgi-1",
        "task": None,
        "request_id": "4f2a",
        "stack": '  File "/srv/shop/views.py", line 12, in new',
    },
    {
        "pid": 12,
        "generation": 3,
        "age_seconds": 0.0123,
        "phase": "websocket",
        "method": "GET",
        "path": "/live/prices",
        "application": "live:app",
        "mount": "/live",
        "thread": None,
        "task": "Task-7",
        "request_id": None,
        "stack": "",
    },
]
OPTIONS_IN_FORCE: list[dict[str, Any]] = [
    {"option": "--bind", "value": ["unix:/a"], "is_default": False, "origin": "command line"},
    {"option": "--env", "value": ["KEY=(hidden)"], "is_default": False, "origin": "file (/u.toml)"},
    {"option": "--preload", "value": False, "is_default": True, "origin": "default"},
]
PROFILES: list[dict[str, Any]] = [
    {
        "pid": 12,
        "stacks": [[["app (a.py:1)", "slow (a.py:9)"], 30], [["app (a.py:1)"], 10]],
        "samples": 40,
        "left_out": 0,
    },
    {"pid": 13, "error": "this worker is being profiled already"},
]
MEMORY: dict[str, Any] = {
    "since_seconds": 60.0,
    "traced_bytes": 50_000_000,
    "lines": [
        {
            "place": "/srv/shop/cache.py:7",
            "bytes": 30_000_000,
            "blocks": 500,
            "more_bytes": 20_000_000,
            "more_blocks": 400,
            "traceback": ["/srv/shop/views.py:12"],
        }
    ],
}


class FakeSupervisor:
    """Keeps account of what it was asked.

    Attributes:
        asked: the commands, with their arguments.
        status_answer: what `status` gives.
        memory_answer: what `memory` gives.
        refusal: the sentence with which `reload`, `reopen`, `kill` and `memory` fail, if any.
        fault: what `status` raises, if anything.
        held: what `reload` and `kill` wait for, if anything.
        stopping_state: its state once `stop` was asked for.
        ends_on_stop: whether `stop` is followed by the end.
        ends: set when it is to end.
    """

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.stopping_state = "stopping"
        self.status_answer: dict[str, Any] = {
            "version": "0.1.0",
            "accelerator": "in use",
            "pid": 1,
            "name": "mysite.wsgi",
            "started_seconds_ago": 12.3,
            "state": "running",
            "generation": 3,
            "workers_wanted": 2,
            "listening": [{"address": "unix:/run/app.sock", "waiting": 0}],
            "requests": 12_345,
            "app_errors": 4,
            "client_gone": 31,
            "refused": {"not_mounted": 1, "body_timeout": 2},
            "recycled": 2,
            "crashed": 0,
            "slow_requests": 0,
            "latency": {"bounds": [0.01, 0.1, 1.0], "counts": [100, 50, 10, 0]},
            "workers": [WORKER, UNKNOWN_WORKER],
        }
        self.memory_answer: dict[str, Any] = MEMORY
        self.refusal = ""
        self.fault: Exception | None = None
        self.held: trio.Event | None = None
        self.ends_on_stop = True
        self.ends = trio.Event()

    async def status(self) -> Mapping[str, object]:
        self.asked.append("status")
        if self.fault is not None:
            raise self.fault
        return dict(self.status_answer)

    async def requests(
        self, *, limit: int, older_seconds: float, stacks: bool
    ) -> Mapping[str, object]:
        self.asked.append(("requests", limit, older_seconds, stacks))
        return {"requests": [dict(it) for it in REQUESTS], "left_out": 3}

    async def config(self) -> Mapping[str, object]:
        self.asked.append("config")
        return {"options": OPTIONS_IN_FORCE}

    async def reopen(self) -> Mapping[str, object]:
        self.asked.append("reopen")
        if self.refusal:
            raise CommandFailed(self.refusal)
        return {"reopened": ["/var/log/app.log"]}

    async def kill(self, pid: int, *, now: bool) -> Mapping[str, object]:
        self.asked.append(("kill", pid, now))
        if self.held is not None:
            await self.held.wait()
        if self.refusal:
            raise CommandFailed(self.refusal)
        return {"ended": pid}

    async def profile(self, *, seconds: float, worker: int) -> Mapping[str, object]:
        self.asked.append(("profile", seconds, worker))
        return {"profiles": [{**it, "pid": worker or it["pid"]} for it in PROFILES]}

    async def memory(self, *, worker: int, lines: int, reset: bool) -> Mapping[str, object]:
        self.asked.append(("memory", worker, lines, reset))
        if self.refusal:
            raise CommandFailed(self.refusal)
        return {"pid": 12, **self.memory_answer}

    async def probe(self, *, token: str, ends: bool) -> Mapping[str, object]:
        self.asked.append(("probe", token, ends))
        return {"arrived": [], "workers": 1, "errors": []}

    async def reload(self) -> Mapping[str, object]:
        self.asked.append("reload")
        if self.held is not None:
            await self.held.wait()
        if self.refusal:
            raise CommandFailed(self.refusal)
        return {"reloaded": True}

    async def scale(self, workers: int) -> Mapping[str, object]:
        self.asked.append(("scale", workers))
        return {"workers": workers}

    async def stop(self) -> Mapping[str, object]:
        self.asked.append("stop")
        self.status_answer["state"] = self.stopping_state
        if self.ends_on_stop:
            self.ends.set()
        return {"stopping": True}

    async def stacks(self) -> Mapping[str, object]:
        self.asked.append("stacks")
        return {
            "processes": [
                {"pid": 1, "role": "supervisor", "stack": "File supervisor.py\n"},
                {"pid": 12, "role": "worker", "stack": "File app.py\n  slow()\n"},
            ]
        }


@contextmanager
def control_directory() -> Iterator[Path]:
    """Give a directory whose paths are short enough for a unix socket; pytest's own may not be."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@contextmanager
def running_control(path: Path, supervisor: FakeSupervisor) -> Iterator[LogEvents]:
    """Serve in a thread until the block is left, or the supervisor ends; give the log."""
    log = LogEvents()
    ready = threading.Event()
    tokens: list[trio.lowlevel.TrioToken] = []
    failures: list[BaseException] = []

    async def main() -> None:
        tokens.append(trio.lowlevel.current_trio_token())
        async with trio.open_nursery() as nursery:
            serve = partial(serve_control, logger=make_logger("json", stream=log))
            await nursery.start(serve, path, supervisor)
            ready.set()
            await supervisor.ends.wait()
            await trio.testing.wait_all_tasks_blocked()  # its last answer is out
            nursery.cancel_scope.cancel()

    def run() -> None:
        try:
            trio.run(main)
        except BaseException as error:
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="control")
    thread.start()
    try:
        assert ready.wait(PATIENCE_SECONDS)
        if not failures:
            yield log
    finally:
        with suppress(trio.RunFinishedError):
            tokens[0].run_sync_soon(supervisor.ends.set)
        thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    assert not failures, failures
