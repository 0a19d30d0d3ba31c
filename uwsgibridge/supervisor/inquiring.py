"""Asks the workers what an operator wants to know of them, and puts their answers together."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from functools import partial
from time import monotonic
from typing import Any, Final

import trio

from uwsgibridge.supervisor.fleet import Fleet
from uwsgibridge.supervisor.worker_process import WorkerProcess

# How long a worker may take to list its requests: as long as for its stacks.
_REQUESTS_SECONDS: Final = 1.0

# How much longer than the sampling itself its answer may take: a thread of a busy worker waits for its turn.
_MARGIN_SECONDS: Final = 10.0

# How long a worker may take to look at all of its memory, which may be gigabytes.
_SNAPSHOT_SECONDS: Final = 110.0

_SILENT: Final = (
    "the worker gives no answer: it does not accept yet, or is blocked, or of an older version"
)


async def list_requests(
    fleet: Fleet, *, limit: int, older_seconds: float, stacks: bool
) -> dict[str, Any]:
    """Tell the requests in flight of all workers, the oldest first.

    A worker that does not answer, such as one whose event loop is blocked, can't tell more than what is in its flight
    recorder. How old its requests are is not known, so these come first, and count as old enough.

    Args:
        fleet: the workers.
        limit: how many requests are told at the most.
        older_seconds: younger ones are left out.
        stacks: whether each has its stack.
    """
    arguments = {"limit": limit, "older_seconds": older_seconds, "with_stacks": stacks}
    found: list[dict[str, Any]] = []
    left_out = 0

    async def ask(worker: WorkerProcess, generation: int) -> None:
        nonlocal left_out
        answer = await worker.inquire("requests", arguments, seconds=_REQUESTS_SECONDS)
        if answer is None or "error" in answer:
            told = _from_flights(worker)
        else:
            told = answer["requests"]
            left_out += answer["left_out"]
        found.extend({"pid": worker.pid, "generation": generation, **it} for it in told)

    async with trio.open_nursery() as nursery:
        for generation in fleet.generations:
            for worker in list(generation.workers.values()):
                nursery.start_soon(partial(ask, worker, generation.number))
    # Workers answer at different moments, and have one clock.
    oldest = heapq.nsmallest(limit, found, key=lambda it: it["accepted_at"])
    now = monotonic()
    for it in oldest:
        accepted_at = it.pop("accepted_at")
        if it["age_seconds"] is not None:
            it["age_seconds"] = round(now - accepted_at, 3)
    return {"requests": oldest, "left_out": left_out + len(found) - len(oldest)}


async def profile(workers: Sequence[WorkerProcess], *, seconds: float) -> dict[str, Any]:
    """Have workers sample themselves, all at the same time, and tell what each has found.

    Args:
        workers: who is asked.
        seconds: how long the samples are taken.
    """
    profiles: list[dict[str, Any]] = []

    async def ask(worker: WorkerProcess) -> None:
        await worker.heartbeat(_REQUESTS_SECONDS)
        answer = None
        if not worker.silent_seconds:  # a blocked worker does not even begin
            answer = await worker.inquire(
                "profile", {"seconds": seconds}, seconds=seconds + _MARGIN_SECONDS
            )
        profiles.append({"pid": worker.pid, **(answer or {"error": _SILENT})})

    async with trio.open_nursery() as nursery:
        for worker in workers:
            nursery.start_soon(ask, worker)
    return {"profiles": profiles}


async def describe_memory(worker: WorkerProcess, *, lines: int, reset: bool) -> dict[str, Any]:
    """Have a worker tell which lines of code hold memory; with ``error`` where it can't."""
    arguments = {"lines": lines, "reset": reset}
    answer = await worker.inquire("memory", arguments, seconds=_SNAPSHOT_SECONDS)
    return {"pid": worker.pid, **(answer or {"error": _SILENT})}


async def probe(fleet: Fleet, token: str, *, ends: bool) -> dict[str, Any]:
    """Have the workers answer requests with a token, and tell what has arrived with it so far.

    Args:
        fleet: the workers.
        token: of the probe.
        ends: whether they are to forget it.

    Returns:
        ``arrived``, in the order of the requests' numbers, each with the worker's pid; ``workers``, how many answer; and
        ``errors``, a sentence for each that does not.
    """
    arrived: list[dict[str, Any]] = []
    errors: list[str] = []
    workers = [it for generation in fleet.generations for it in generation.workers.values()]

    async def ask(worker: WorkerProcess) -> None:
        arguments = {"token": token, "ends": ends}
        answer = await worker.inquire("probe", arguments, seconds=_REQUESTS_SECONDS)
        answer = answer or {"error": _SILENT}
        if "error" in answer:
            errors.append(f"worker {worker.pid}: {answer['error']}")
        else:
            arrived.extend({"pid": worker.pid, **it} for it in answer["arrived"])

    async with trio.open_nursery() as nursery:
        for worker in workers:
            nursery.start_soon(ask, worker)
    arrived.sort(key=lambda it: it["number"])
    return {"arrived": arrived, "workers": len(workers) - len(errors), "errors": errors}


def _from_flights(worker: WorkerProcess) -> list[dict[str, Any]]:
    return [
        {
            "accepted_at": 0.0,
            "age_seconds": None,
            "phase": "stuck",
            "method": flight.method,
            "path": flight.path[:1_000],
            "application": None,
            "mount": None,
            "thread": None,
            "task": None,
            "request_id": None,
        }
        for flight in worker.held().requests
    ]
