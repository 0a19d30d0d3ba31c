"""An ASGI application's lifespan: startup before the first request, shutdown after the last one.

ASGI specification, "Lifespan Protocol", version 2.0, with state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import trio

from uwsgibridge.hosts.loading import ApplicationError
from uwsgibridge.hosts.loops import Loop
from uwsgibridge.hosts.reporting import application_traceback
from uwsgibridge.protocol.errors import InvalidResponse
from uwsgibridge.telemetry.logs import Logger


class Lifespan:
    """Runs the application's lifespan task on the application's loop.

    `startup` and `shutdown` are awaited from trio, wherever the task itself runs; with trio as a
    guest both are in one thread, so setting an event of the other side is safe.

    Args:
        app: the application.
        loop: where it runs.
        mode: ``on``, ``off``, or ``auto``: an application that raises at the first event has none.
        timeout_seconds: for startup, and for shutdown.
        logger: where to say that an application has no lifespan.

    Attributes:
        state: what the application put into ``scope["state"]``.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        *,
        loop: Loop,
        mode: str,
        timeout_seconds: float,
        logger: Logger,
    ) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._loop = loop
        self._mode = mode
        self._timeout_seconds = timeout_seconds
        self._log = logger
        self._task: object = None
        self._running = False
        self._stage = "starting"
        self._startup_given = False
        self._error: BaseException | None = None
        self._failure: str | None = None
        self._startup_over = trio.Event()
        self._shutdown_over = trio.Event()
        self._shutdown_wanted = loop.event()

    async def startup(self) -> None:
        """Send ``lifespan.startup`` and wait for the answer.

        Raises:
            ApplicationError: the application says that it failed, or takes too long; with mode
                ``on`` also where it has no lifespan.
        """
        if self._mode == "off":
            return
        self._running = True
        self._task = self._loop.spawn(self._run)
        with trio.move_on_after(self._timeout_seconds) as scope:
            await self._startup_over.wait()
        if scope.cancelled_caught:
            raise ApplicationError(
                f"the application's startup took longer than {self._timeout_seconds:g} s "
                "(--lifespan-timeout-seconds)"
            )
        if self._failure is not None:
            raise ApplicationError(f"the application's startup failed: {self._failure}")
        if self._stage == "started":
            return
        if self._mode == "on":
            raise ApplicationError(
                "the application's startup failed (--lifespan on)",
                traceback_text=application_traceback(self._error) if self._error else "",
            )
        reason = repr(self._error) if self._error else "it returned at once"
        self._log.info("application has no lifespan events", reason=reason)

    async def shutdown(self) -> None:
        """Send ``lifespan.shutdown`` and wait for the answer; what goes wrong is logged."""
        if not self._running or self._stage != "started":
            return
        self._shutdown_wanted.set()
        with trio.move_on_after(self._timeout_seconds) as scope:
            await self._shutdown_over.wait()
        if scope.cancelled_caught:
            self._log.error(
                "application's shutdown took too long", option="--lifespan-timeout-seconds"
            )
        elif self._failure is not None:
            self._log.error("application's shutdown failed", detail=self._failure)
        elif self._error is not None:
            self._log.error(
                "application's shutdown failed", traceback=application_traceback(self._error)
            )

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._receive, self._send)
        except (asyncio.CancelledError, trio.Cancelled):
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit, too, is the application's answer
            self._error = error
            if self._stage == "started":
                self._log.error(
                    "application's lifespan ended while serving",
                    traceback=application_traceback(error),
                )
        finally:
            self._running = False
            self._startup_over.set()
            self._shutdown_over.set()

    async def _receive(self) -> dict[str, Any]:
        if not self._startup_given:
            # Also after the answer, which an application may give before it asks for the event.
            self._startup_given = True
            return {"type": "lifespan.startup"}
        await self._shutdown_wanted.wait()
        if self._stage == "stopping":
            # Nothing comes after shutdown: an application that asks again waits until it is ended.
            await self._loop.event().wait()
        self._stage = "stopping"
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: dict[str, Any]) -> None:
        match message["type"], self._stage:
            case "lifespan.startup.complete", "starting":
                self._stage = "started"
                self._startup_over.set()
            case "lifespan.startup.failed", "starting":
                self._failure = message.get("message", "") or "it gave no message"
                self._startup_over.set()
            case "lifespan.shutdown.complete", "stopping":
                self._shutdown_over.set()
            case "lifespan.shutdown.failed", "stopping":
                self._failure = message.get("message", "") or "it gave no message"
                self._shutdown_over.set()
            case kind, _:
                raise InvalidResponse(f"{kind!r} is not expected here")
