"""What a host is to the listener, and which kind an application needs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal, Protocol

import trio

from uwsgibridge.connection import Connection
from uwsgibridge.hosts.admission import Admission


class Host(Protocol):
    """Where an application lives.

    Attributes:
        admission: how much it holds, and what.
    """

    admission: Admission[Connection]

    @property
    def capacity(self) -> int:
        """How many requests it can run at once."""

    def queue_seconds(self, now: float) -> float:
        """Tell how long the request has waited that waits the longest for a place to run.

        Args:
            now: `time.monotonic()`.
        """

    def submit(self, connection: Connection) -> None:
        """Take over a connection with its request; answer, end it, and release it."""

    async def start(self, nursery: trio.Nursery) -> None:
        """Get ready to serve.

        Args:
            nursery: for what runs as long as the host.

        Raises:
            ApplicationError: the application says that it can't.
        """

    def drain(self) -> None:
        """Have what does not end by itself begin to end; nothing new comes any more."""

    def break_off(self) -> None:
        """End what is in flight at once, so that clients see it."""

    async def stop(self) -> None:
        """End what `start` began; nothing is in flight any more."""


def detect_interface(app: Callable[..., Any]) -> Literal["wsgi", "asgi"]:
    """Tell by the callable which interface it has.

    An ASGI application is a coroutine function of three arguments, or an object with such a
    ``__call__`` (ASGI specification, "Applications"); everything else is WSGI (PEP 3333).
    """
    target = app
    while isinstance(target, functools.partial):
        target = target.func
    call = target if inspect.isroutine(target) else getattr(target, "__call__", None)  # noqa: B004 - the method itself is looked at
    if inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(call):
        return "asgi"
    # A plain function around an ASGI application (a decorator) still takes its three arguments.
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return "wsgi"
    names = [p.name for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    return "asgi" if names[:3] == ["scope", "receive", "send"] else "wsgi"
