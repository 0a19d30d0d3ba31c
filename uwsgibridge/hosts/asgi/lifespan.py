"""An ASGI application's lifespan: startup before the first request, shutdown after the last one.

ASGI specification, "Lifespan Protocol", version 2.0, with state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final

import trio

from uwsgibridge.errors import ApplicationError
from uwsgibridge.hosts.asgi.messages import Message, kind_of, value_of
from uwsgibridge.loop.interface import Loop, Task
from uwsgibridge.protocol.errors import InvalidResponse
from uwsgibridge.telemetry.causes import WITHOUT_TRIO, lacks_asyncio
from uwsgibridge.telemetry.logs import Logger
from uwsgibridge.telemetry.reporting import application_traceback, describe_error

_BEGINS_A_TRACEBACK: Final = "Traceback (most recent call last):"


class _Stage(Enum):
    """The stage of a lifespan (ASGI specification, "Lifespan")."""

    STARTING = auto()
    STARTED = auto()
    FAILED = auto()  # the application has said so
    STOPPING = auto()


class Lifespan:
    """Runs the application's lifespan task on the application's loop.

    `startup` and `shutdown` are awaited from trio, wherever the task itself runs. With trio as a guest, both sides
    are in one thread, so that each may set events of the other.

    Args:
        app: the application.
        loop: the event loop that the application runs on.
        mode: ``on``, ``off``, or ``auto``. With ``auto``, an application that raises before it has received
            ``lifespan.startup``, or sends another kind of message, has no lifespan.
        timeout_seconds: how long the startup may take, and the shutdown.
        logger: where log events go.

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
        self._task: Task | None = None
        self._running = False
        self._stage = _Stage.STARTING
        self._startup_given = False
        self._is_ending = False
        self._sent_something_else = False
        self._error: BaseException | None = None
        self._failure: str | None = None
        self._startup_over = trio.Event()
        self._shutdown_over = trio.Event()
        # Set when the task has ended, or waits for an event that never comes.
        self._nothing_follows = trio.Event()
        self._shutdown_wanted = loop.event()

    async def startup(self) -> None:
        """Send ``lifespan.startup`` and wait for the answer.

        Raises:
            ApplicationError: the application says that its startup failed, raises after it has received
                the event, or takes too long; with mode ``on`` also where it has no lifespan.
        """
        if self._mode == "off":
            return
        self._running = True
        self._task = self._loop.spawn(self._run)
        with trio.move_on_after(self._timeout_seconds) as scope:
            await self._startup_over.wait()
            if self._failure is not None:
                # Frameworks raise the cause after they have sent the failure.
                await self._nothing_follows.wait()
        if self._failure is not None:
            raise self._startup_failed(self._failure)
        if scope.cancelled_caught:
            raise ApplicationError(
                f"the application's startup took longer than {self._timeout_seconds:g} s "
                "(--lifespan-timeout-seconds)"
            )
        if self._stage is _Stage.STARTED:
            return
        if self._mode == "on":
            raise ApplicationError(
                f"the application's startup failed (--lifespan on){self._remedy()}",
                traceback_text=self._traceback(),
            )
        if self._error is not None and self._startup_given and not self._sent_something_else:
            remedy = self._remedy() or "; for an application that has no lifespan: --lifespan off"
            raise ApplicationError(
                "the application's startup failed: it raised when it had received "
                f"lifespan.startup{remedy}",
                traceback_text=self._traceback(),
            )
        reason = "it returned at once"
        if self._error is not None:
            reason = describe_error(self._error) + self._remedy()
        self._log.info("application has no lifespan events", reason=reason)

    def expect_end(self) -> None:
        """Expect that the task is cancelled, because the worker ends: nobody is told of that."""
        self._is_ending = True

    async def shutdown(self) -> None:
        """Send ``lifespan.shutdown`` and wait for the answer; log failures."""
        if not self._running or self._stage is not _Stage.STARTED:
            return
        self._is_ending = True
        self._shutdown_wanted.set()
        with trio.move_on_after(self._timeout_seconds) as scope:
            await self._shutdown_over.wait()
            if self._failure is not None:
                await self._nothing_follows.wait()
        raised = {"traceback": self._traceback()} if self._error is not None else {}
        if self._failure is not None:
            self._log.error("application's shutdown failed", detail=self._failure, **raised)
        elif scope.cancelled_caught:
            self._log.error(
                "application's shutdown took too long", option="--lifespan-timeout-seconds"
            )
        elif raised:
            self._log.error("application's shutdown failed", **raised)

    def _startup_failed(self, message: str) -> ApplicationError:
        traceback_text = self._traceback()
        if traceback_text and _BEGINS_A_TRACEBACK in message:
            # Starlette's message is the traceback of the exception that it raises next.
            return ApplicationError(
                f"the application's startup failed{self._remedy()}", traceback_text=traceback_text
            )
        return ApplicationError(
            f"the application's startup failed: {message}", traceback_text=traceback_text
        )

    def _remedy(self) -> str:
        """Say what helps an application that is written for asyncio and runs on trio, as the end of a sentence."""
        is_lost = (
            self._error is not None and self._loop.name == "trio" and lacks_asyncio(self._error)
        )
        return f"; {WITHOUT_TRIO}" if is_lost else ""

    def _traceback(self) -> str:
        return "" if self._error is None else application_traceback(self._error)

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._receive, self._send)
        except asyncio.CancelledError as error:
            # At the loop's end, this is the bridge's cancellation, and nobody looks at it. Earlier, it is the
            # application's own.
            self._error = error
            if self._stage is _Stage.STARTED and not self._is_ending:
                self._tell_end(
                    error,
                    hint="something has cancelled its task, such as a request that cancels all tasks of the event loop",
                )
            raise
        except BaseException as error:  # SystemExit is an answer of the application, too
            if isinstance(error, trio.Cancelled) and self._loop.must_end(self._task):
                raise
            self._error = error
            if self._stage is _Stage.STARTED:
                self._tell_end(error)
        finally:
            self._running = False
            self._startup_over.set()
            self._shutdown_over.set()
            self._nothing_follows.set()

    def _tell_end(self, error: BaseException, **facts: str) -> None:
        self._log.error(
            "application's lifespan ended while serving",
            traceback=application_traceback(error),
            **facts,
        )

    async def _receive(self) -> dict[str, Any]:
        if not self._startup_given:
            # Given also after the answer: an application may answer before it asks for the event.
            self._startup_given = True
            return {"type": "lifespan.startup"}
        if self._stage is _Stage.FAILED:
            self._nothing_follows.set()
        await self._shutdown_wanted.wait()
        if self._stage is _Stage.STOPPING:
            # No event follows the shutdown: an application that asks again waits until its task is cancelled.
            self._nothing_follows.set()
            await self._loop.event().wait()
        self._stage = _Stage.STOPPING
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        kind = kind_of(message)
        match kind, self._stage:
            case "lifespan.startup.complete", _Stage.STARTING:
                self._stage = _Stage.STARTED
                self._startup_over.set()
            case "lifespan.startup.failed", _Stage.STARTING:
                self._failure = _words_of(message)
                self._stage = _Stage.FAILED
                self._startup_over.set()
            case "lifespan.shutdown.complete", _Stage.STOPPING:
                self._shutdown_over.set()
            case "lifespan.shutdown.failed", _Stage.STOPPING:
                self._failure = _words_of(message)
                self._shutdown_over.set()
            case _:
                if not kind.startswith("lifespan."):
                    self._sent_something_else = True
                raise InvalidResponse(f"{kind!r} is not expected here")


def _words_of(message: Message) -> str:
    """Give what an application says of its failure. It should be a text, and some give the exception."""
    said = value_of(message, "message", (str, BaseException), default=None)
    if isinstance(said, BaseException):
        return describe_error(said)
    return said or "it gave no message"
