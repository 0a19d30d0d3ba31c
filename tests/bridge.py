"""A bridge that runs in a thread of the test process, on each event loop and each kind of socket."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import importlib.util
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.log_events import PATIENCE_SECONDS, LogEvents
from tests.raw_client import Answer, ask
from uwsgibridge import Settings
from uwsgibridge.application.application import describe
from uwsgibridge.connection.sockets import open_sockets
from uwsgibridge.link.figures import Figures
from uwsgibridge.loop.asyncio_loop import AsyncioLoop
from uwsgibridge.telemetry.counters import Counters
from uwsgibridge.telemetry.logs import make_logger
from uwsgibridge.worker.requests_underway import Placed
from uwsgibridge.worker.worker import Worker

LOOPS = [
    "trio",
    "asyncio",
    pytest.param(
        "uvloop",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed"
        ),
    ),
]

# Of asyncio's loop, each of which looks at the descriptors: more than anything here takes.
_ROUNDS = 50

on_each_socket = pytest.mark.parametrize("family", ["tcp", "unix"])
on_each_loop = pytest.mark.parametrize("loop", LOOPS)

App = Callable[..., Any]


class Bridge:
    """A worker in a thread of its own, from its start to the end of its drain.

    Attributes:
        addresses: where it listens.
        events: what it logs.
        counters: what it counts; final once it has stopped.
    """

    def __init__(
        self,
        app: App | None,
        settings: Settings,
        *,
        loop: str,
        mounts: Mapping[str, App],
        before: Callable[[], object] = lambda: None,
    ) -> None:
        self._before = before
        self.events = LogEvents()
        self.settings = settings
        prefixed = {**({"": app} if app else {}), **mounts}
        self._applications = [
            describe(it, settings.interface, prefix=prefix) for prefix, it in prefixed.items()
        ]
        self._asyncio_loop: asyncio.AbstractEventLoop | None = None
        self._loop_name = loop
        self._scope = trio.CancelScope()
        self._ready: concurrent.futures.Future[list[str]] = concurrent.futures.Future()
        self._over: concurrent.futures.Future[None] = concurrent.futures.Future()
        # A daemon: Python would wait for one that hangs, and the test that failed by it would never be told.
        self._thread = threading.Thread(target=self._run, name="bridge", daemon=True)

    def start(self) -> None:
        """Have it serve.

        Raises:
            AssertionError: it does not in time; it is stopped then as soon as it has started.
        """
        self._thread.start()
        over, ready = self._over, self._ready
        either: list[concurrent.futures.Future[Any]] = [over, ready]
        concurrent.futures.wait(either, PATIENCE_SECONDS, concurrent.futures.FIRST_COMPLETED)
        if over.done() and not ready.done():
            over.result(0)
        if ready.cancel():
            frame = sys._current_frames().get(self._thread.ident or 0)
            where = "".join(traceback.format_stack(frame))
            raise AssertionError(f"the bridge did not start in time; it is at\n{where}")
        self.addresses = ready.result(PATIENCE_SECONDS)

    def begin_stop(self) -> None:
        """Have it drain, without waiting for that."""
        with contextlib.suppress(trio.RunFinishedError):  # it has ended by itself
            self._token.run_sync_soon(self._scope.cancel)

    def hurry(self) -> None:
        """Cut the drain short."""
        self._token.run_sync_soon(self._worker.hurry)

    def wait_stopped(self) -> None:
        """Wait for the drain's end; raises what went wrong in the bridge."""
        self._thread.join(PATIENCE_SECONDS)
        assert self._over.done(), f"the bridge did not stop in time:\n{self.stacks()}"
        self._over.result(0)

    def stop(self) -> None:
        """Drain, and wait for the end."""
        if not self._over.done():
            self.begin_stop()
        self.wait_stopped()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep its loop from doing anything, so that what is prepared meanwhile comes at once."""
        holding, release = threading.Event(), threading.Event()

        def hold() -> None:
            holding.set()
            assert release.wait(PATIENCE_SECONDS)

        self._token.run_sync_soon(hold)
        assert holding.wait(PATIENCE_SECONDS)
        try:
            yield
        finally:
            release.set()

    def stop_accepting(self) -> None:
        """Leave what comes from now on in the backlog, for the last look into it at a stop."""
        trio.from_thread.run_sync(self._worker._listener._pause, trio_token=self._token)

    def settle(self) -> None:
        """Wait until the bridge has done all that it can without further input."""
        trio.from_thread.run(trio.testing.wait_all_tasks_blocked, trio_token=self._token)
        loop = self._asyncio_loop
        if loop is None:
            return

        async def many_rounds() -> None:
            for _ in range(_ROUNDS):
                await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(many_rounds(), loop).result(PATIENCE_SECONDS)

    def figures(self) -> Figures:
        """Tell how the worker does."""
        return self._worker.figures()

    def underway(self) -> list[Placed]:
        """List its requests, as its own loop sees them."""
        return trio.from_thread.run_sync(self._worker.underway, trio_token=self._token)

    def probe(self, token: str, *, ends: bool = False) -> dict[str, Any]:
        """Have it answer requests with a token by itself, or no more, and tell what has arrived with it."""
        probe = partial(self._worker.probe, token, ends=ends)
        return trio.from_thread.run_sync(probe, trio_token=self._token)

    def is_diverted(self) -> bool:
        """Whether a probe looks at its requests."""
        return self._worker._listener._is_diverted

    def has_intakes(self) -> bool:
        """Whether it accepts by the accelerator."""
        return all(it._intake is not None for it in self._worker._listener._acceptors)

    def stacks(self) -> str:
        """Tell where each thread and request is."""
        return self._worker.stacks()

    @property
    def address(self) -> str:
        """The first of the addresses."""
        return self.addresses[0]

    @property
    def counters(self) -> Counters:
        return self._worker.counters

    def ask(self, path: str = "/", **arguments: Any) -> Answer:
        """Send one request, and read its answer."""
        return ask(self.address, path, **arguments)

    # The thread.

    def _run(self) -> None:
        try:
            self._before()
            if self._loop_name == "trio":
                trio.run(self._serve, None)
            else:
                self._run_as_guest()
        except BaseException as error:
            self._over.set_exception(_detach(error))
            gc.collect()
        else:
            self._over.set_result(None)

    def _run_as_guest(self) -> None:
        factory: Any = asyncio.new_event_loop
        if self._loop_name == "uvloop":
            import uvloop

            factory = uvloop.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            loop = runner.get_loop()

            self._asyncio_loop = loop
            host_loop = AsyncioLoop(loop)
            host_loop.run_guest(self._serve, host_loop, has_wakeup_descriptor=True)

    async def _serve(self, host_loop: AsyncioLoop | None) -> None:
        self._token = trio.lowlevel.current_trio_token()
        settings = self.settings
        self._worker = Worker(
            self._applications,
            settings,
            make_logger("json", "debug", self.events),
            host_loop=host_loop,
        )
        with open_sockets(
            settings.bind, mode=settings.socket_mode, backlog=settings.backlog
        ) as sockets:
            addresses = [str(listening.address) for listening in sockets]

            def ready() -> None:
                if self._ready.set_running_or_notify_cancel():
                    self._ready.set_result(addresses)
                else:
                    self._scope.cancel()

            with self._scope:
                await self._worker.run(sockets, ready=ready)


def _detach(error: BaseException) -> BaseException:
    """Keep an error's words only, so that what its frames had open goes now and not some time later."""
    error.add_note("".join(traceback.format_exception(error)))
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is not None:
            pending += (one.__cause__, one.__context__)
            pending += one.exceptions if isinstance(one, BaseExceptionGroup) else ()
            one.__cause__ = one.__context__ = one.__traceback__ = None
    return error


@contextmanager
def running(
    app: App | None,
    family: str = "tcp",
    *,
    loop: str = "trio",
    mounts: Mapping[str, App] | None = None,
    before: Callable[[], object] = lambda: None,
    **settings: Any,
) -> Iterator[Bridge]:
    """Run a bridge, and drain it at the end.

    Args:
        app: the application; may be None where there are mounts.
        family: ``tcp``, ``tcp6`` or ``unix``; or ``both`` for TCP and then unix.
        loop: ``trio``, ``asyncio`` or ``uvloop``.
        mounts: further applications by prefix.
        before: called in the bridge's thread before its loop runs.
        settings: fields of `Settings`.
    """
    with tempfile.TemporaryDirectory() as directory:
        unix = f"unix:{Path(directory) / 's'}"
        binds = {
            "tcp": ("127.0.0.1:0",),
            "tcp6": ("[::1]:0",),
            "unix": (unix,),
            "both": ("127.0.0.1:0", unix),
        }
        options: dict[str, Any] = {
            "bind": binds[family],
            "graceful_timeout_seconds": PATIENCE_SECONDS,
            # A busy machine blocks the loop as well, and many tests want to see no warning.
            "loop_block_warning_seconds": 0,
        }
        bridge = Bridge(
            app,
            Settings(**{"workers": 0, **options, **settings}),
            loop=loop,
            mounts=mounts or {},
            before=before,
        )
        bridge.start()
        try:
            yield bridge
        finally:
            bridge.stop()
