"""Asks the workers what an operator wants to know of them, and puts their answers together."""

from __future__ import annotations

import heapq
from functools import partial
from typing import Any, Final

import trio

from uwsgibridge.supervisor.fleet import Fleet
from uwsgibridge.supervisor.worker_process import WorkerProcess

# How long a worker may take to list its requests: as long as for its stacks.
_REQUESTS_SECONDS: Final = 1.0


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
    oldest = heapq.nsmallest(limit, found, key=_youth)
    return {"requests": oldest, "left_out": left_out + len(found) - len(oldest)}


def _youth(request: dict[str, Any]) -> float:
    age = request["age_seconds"]
    return -1e12 if age is None else -float(age)


def _from_flights(worker: WorkerProcess) -> list[dict[str, Any]]:
    return [
        {
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
