"""Carries out an operator's commands, which come over the control socket or by a signal."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from time import monotonic
from types import MappingProxyType
from typing import Any

import trio

from uwsgibridge import fast
from uwsgibridge._version import __version__
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.control.commands import CommandFailed
from uwsgibridge.errors import LogFileError
from uwsgibridge.figures.totals import HistogramSum, Totals
from uwsgibridge.supervisor.fleet import Fleet
from uwsgibridge.supervisor.log_reopening import reopen_logs
from uwsgibridge.supervisor.lost_files import remedy
from uwsgibridge.supervisor.phase import Phase
from uwsgibridge.supervisor.worker_process import WorkerProcess
from uwsgibridge.system.backlog import connections_waiting
from uwsgibridge.system.process_figures import cpu_seconds, rss_bytes
from uwsgibridge.telemetry.stacks import stacks_of_threads


class ControlCommands:
    """Carries out the commands of `uwsgibridge.control.server`.

    Args:
        name: of the service, for people.
        fleet: the workers.
        stop: begins the stop; called with the reason.
        describe_sidecars: gives the state of each sidecar.
        origins: where each setting came from, as `uwsgibridge.config.origins` has it.
    """

    def __init__(
        self,
        name: str,
        fleet: Fleet,
        stop: Callable[[str], None],
        describe_sidecars: Callable[[], list[dict[str, Any]]] = list,
        origins: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._origins = origins
        self._name = name
        self._describe_sidecars = describe_sidecars
        self._fleet = fleet
        self._stop = stop

    async def status(self) -> dict[str, Any]:
        """Give the state of the supervisor and its workers."""
        await self._fleet.hear_from_workers()
        told = [
            worker.figures
            for generation in self._fleet.generations
            for worker in generation.workers.values()
            if worker.figures is not None
        ]
        totals = self._fleet.tally.with_workers(told)
        workers = [
            {
                **worker.describe(),
                "generation": generation.number,
                "number": generation.number_of(worker),
                "rss_bytes": rss_bytes(worker.pid),
                "cpu_seconds": cpu_seconds(worker.pid),
                "heartbeat_seconds_ago": worker.heard_seconds_ago,
            }
            for generation in self._fleet.generations
            for worker in generation.workers.values()
        ]
        return {
            "version": __version__,
            "accelerator": fast.accelerator_state,
            "pid": os.getpid(),
            "name": self._name,
            "started_seconds_ago": round(monotonic() - self._fleet.started_at, 3),
            "state": self._fleet.state,
            "drain_delay_seconds_left": self._drain_seconds_left(),
            # While the commands of `--on-start` run, there is none yet.
            "generation": self._fleet.current.number if self._fleet.generations else None,
            "workers_wanted": self._fleet.wanted,
            "listening": [_describe_listening(it) for it in self._fleet.sockets],
            **totals.describe(),
            "latency": _latency(self._fleet.counted()),
            "workers": workers,
            "sidecars": self._describe_sidecars(),
        }

    async def requests(self, *, limit: int, older_seconds: float, stacks: bool) -> dict[str, Any]:
        """Give the requests in flight of all workers."""
        from uwsgibridge.supervisor.inquiring import (
            list_requests,  # imported here: it is rarely asked for
        )

        return await list_requests(
            self._fleet, limit=limit, older_seconds=older_seconds, stacks=stacks
        )

    async def config(self) -> dict[str, Any]:
        """Give each option with its value and where that came from."""
        from uwsgibridge.config.origins import describe_settings  # imported here, likewise

        return {"options": describe_settings(self._fleet.settings, self._origins)}

    async def reopen(self) -> dict[str, Any]:
        """Open the log files anew."""
        try:
            files = reopen_logs(self._fleet)
        except LogFileError as error:
            raise CommandFailed(str(error)) from None
        if not files:
            raise CommandFailed("nothing to open anew: there is no log file (--log-file)")
        return {"reopened": files}

    async def kill(self, pid: int, *, now: bool) -> dict[str, Any]:
        """Have one worker drain, which is replaced at once; return when it has ended."""
        worker = self._find_worker(pid)
        fleet = self._fleet
        if now:
            worker.hurry()
        elif not worker.is_stopping:
            worker.stop()
        fleet.wake_waiters()
        await fleet.wait_for(
            lambda: (
                all(it.workers.get(pid) is not worker for it in fleet.generations)
                or fleet.is_ending()
            )
        )
        if fleet.is_ending():
            raise CommandFailed("the supervisor is stopping or being upgraded")
        return {"ended": pid}

    async def profile(self, *, seconds: float, worker: int) -> dict[str, Any]:
        """Sample where the threads of the workers are."""
        chosen = [self._find_worker(worker)] if worker else self._fleet.current.ready
        from uwsgibridge.supervisor import inquiring  # imported here, likewise

        answer = await inquiring.profile(chosen, seconds=seconds)
        failures = [it["error"] for it in answer["profiles"] if "error" in it]
        if len(failures) == len(answer["profiles"]):
            raise CommandFailed(failures[0] if failures else "no worker is ready")
        return answer

    async def memory(self, *, worker: int, lines: int, reset: bool) -> dict[str, Any]:
        """Tell which lines of code hold memory in a worker."""
        ready = self._fleet.current.ready
        if not worker and len(ready) != 1:
            pids = ", ".join(str(it.pid) for it in ready) or "none"
            raise CommandFailed(f"name a worker (--worker PID): there are {pids}")
        chosen = self._find_worker(worker) if worker else ready[0]
        from uwsgibridge.supervisor import inquiring  # imported here, likewise

        answer = await inquiring.describe_memory(chosen, lines=lines, reset=reset)
        if "error" in answer:
            raise CommandFailed(answer["error"])
        return answer

    async def probe(self, *, token: str, ends: bool) -> dict[str, Any]:
        """Have the workers answer requests with a token for a while, and tell what has arrived with it."""
        from uwsgibridge.supervisor import inquiring  # imported here, likewise

        answer = await inquiring.probe(self._fleet, token, ends=ends)
        if not answer["workers"]:
            raise CommandFailed("; ".join(answer["errors"]) or "no worker is ready")
        return answer

    def _drain_seconds_left(self) -> float | None:
        ends_at = self._fleet.drain_ends_at
        if ends_at is None or self._fleet.is_stopping:
            return None
        return round(max(ends_at - monotonic(), 0.0), 3)

    def _find_worker(self, pid: int) -> WorkerProcess:
        """Find a worker by its process id.

        Raises:
            CommandFailed: there is none.
        """
        pids: list[str] = []
        for generation in self._fleet.generations:
            if pid in generation.workers:
                return generation.workers[pid]
            pids += map(str, generation.workers)
        raise CommandFailed(f"no worker has the pid {pid}; there are {', '.join(pids) or 'none'}")

    async def reload(self) -> dict[str, Any]:
        """Bring up new workers with new code, and return when they serve."""
        reload = self._fleet.ask_for_reload("control socket")
        await self._fleet.wait_for(lambda: reload.is_over or self._fleet.is_ending())
        if self._fleet.is_ending():
            raise CommandFailed("the supervisor is stopping or being upgraded")
        if reload.has_failed:
            raise CommandFailed("the new code does not come up, the old goes on; the log says why")
        return {"reloaded": True, "generation": self._fleet.current.number}

    async def scale(self, workers: int) -> dict[str, Any]:
        """Change the number of workers."""
        if not self._fleet.least <= workers <= self._fleet.most:
            raise CommandFailed(
                f"workers must be from {self._fleet.least} to {self._fleet.most} "
                "(--workers-min, --workers-max)"
            )
        self._fleet.want(workers, "control socket")
        return {"workers_wanted": self._fleet.wanted}

    async def stop(self) -> dict[str, Any]:
        """Begin the graceful stop, after the drain delay."""
        if not (self._fleet.is_stopping or self._fleet.phase is Phase.DRAIN_DELAY):
            self._stop("control socket")
        return {"stopping": True}

    async def stacks(self) -> dict[str, Any]:
        """Give the stacks of the supervisor and all workers."""
        own = "\n".join(stacks_of_threads())
        processes: list[dict[str, Any]] = [{"pid": os.getpid(), "role": "supervisor", "stack": own}]

        async def ask(worker: WorkerProcess) -> None:
            stack = await worker.stacks()
            processes.append({"pid": worker.pid, "role": "worker", "stack": stack})

        async with trio.open_nursery() as nursery:
            for generation in self._fleet.generations:
                for worker in list(generation.workers.values()):
                    nursery.start_soon(ask, worker)
        return {"processes": processes}


def _describe_listening(listening: ListeningSocket) -> dict[str, Any]:
    lost = listening.lost_file()
    return {
        "address": str(listening.address),
        "waiting": connections_waiting(listening.socket),
        "lost_file": lost,
        **({"hint": remedy(listening, lost)} if lost is not None else {}),
    }


def _latency(totals: Totals) -> dict[str, Any]:
    """Give how long all requests were in the bridge, as a histogram."""
    whole = HistogramSum.empty(totals.bounds)
    for mount in totals.mounts.values():
        times = mount.times["total"]
        whole.add(times.bounds, times.counts, times.nanoseconds)
    return {"bounds": list(whole.bounds), "counts": whole.counts}
