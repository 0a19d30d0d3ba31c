"""Describes the requests that a worker holds, for ``ctl requests`` and the event of a slow request."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from time import monotonic
from typing import Any, Final

from uwsgibridge.hosts.underway import Underway
from uwsgibridge.protocol.request import Request
from uwsgibridge.quick_dataclass import dataclass
from uwsgibridge.telemetry.stacks import await_stack, stack_of_thread

# Of a path so much is told: a table has no room for more, and a packet may have 64 KiB of it.
_PATH_CHARACTERS: Final = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A request in flight, and whose it is.

    Attributes:
        underway: the request.
        application: that has it; None for the files of ``--static``.
        mount: the prefix that the application is mounted at; empty for the root.
    """

    underway: Underway
    application: str | None
    mount: str


def list_requests(
    placed: Iterable[Placed], *, older_seconds: float, limit: int, with_stacks: bool
) -> dict[str, Any]:
    """Describe requests, the oldest first.

    Args:
        placed: the requests that a worker holds.
        older_seconds: younger ones are left out.
        limit: how many are described at the most.
        with_stacks: whether each has its stack.

    Returns:
        ``requests``; and ``left_out``, how many more of that age there are. ``accepted_at`` is of `time.monotonic()`, by
        which the requests of several workers can be put in order.
    """
    now = monotonic()
    due = [it for it in placed if now - it.underway.connection.accepted_at >= older_seconds]
    oldest = heapq.nsmallest(limit, due, key=lambda it: it.underway.connection.accepted_at)
    return {
        "requests": [_describe(it, now, with_stack=with_stacks) for it in oldest],
        "left_out": len(due) - len(oldest),
    }


def stack_of(underway: Underway) -> str:
    """Format where a request stands; empty where that can't be told, or where it only waits for a thread."""
    if underway.thread is not None:
        return stack_of_thread(underway.thread.ident)
    return await_stack(underway.task)


def request_id(request: Request) -> str | None:
    """Give the id that the frontend has given to a request; None without one."""
    return request.vars.get("HTTP_X_REQUEST_ID") or None


def short_path(request: Request) -> str:
    """Give the path without the query, which may hold secrets; cut where it is very long."""
    path = request.path
    return path if len(path) <= _PATH_CHARACTERS else f"{path[:_PATH_CHARACTERS]}..."


def _describe(placed: Placed, now: float, *, with_stack: bool) -> dict[str, Any]:
    underway = placed.underway
    connection, thread, task = underway.connection, underway.thread, underway.task
    request = connection.request
    get_name = getattr(task, "get_name", None)
    described = {
        "accepted_at": connection.accepted_at,
        "age_seconds": round(max(0.0, now - connection.accepted_at), 3),
        "phase": str(underway.phase),
        "method": request.method[:_PATH_CHARACTERS],
        "path": short_path(request),
        "application": placed.application,
        "mount": placed.mount,
        "thread": thread.name if thread is not None else None,
        "task": get_name() if get_name is not None else ("trio" if task is not None else None),
        "request_id": request_id(request),
    }
    if with_stack:
        described["stack"] = stack_of(underway)
    return described
