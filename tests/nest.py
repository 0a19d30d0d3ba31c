"""A real template and its workers, without the supervisor that they belong to."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import trio

from tests.log_events import EVENT_SECONDS, LogEvents
from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.supervisor.generation import Generation, GenerationContext
from uwsgibridge.supervisor.recycling import RecyclingPolicy
from uwsgibridge.supervisor.tally import Tally
from uwsgibridge.supervisor.worker_process import WorkerProcess
from uwsgibridge.telemetry.logs import make_logger

APPLICATION = """
def app(environ, start_response):
    start_response("200 OK", [])
    return []
"""

Test = Callable[[Generation], Coroutine[Any, Any, None]]


class Nest:
    """What a supervisor has before it starts a generation.

    Attributes:
        directory: of the application `site:app`.
        log: of what happens to workers.
    """

    def __init__(self, directory: Path, sockets: list[ListeningSocket]) -> None:
        self.directory = directory
        self.log = LogEvents()
        self.tally = Tally()
        self._sockets = sockets
        self._changed = trio.Event()

    def write(self, text: str) -> None:
        (self.directory / "site_app.py").write_text(APPLICATION + text)

    def run(self, test: Test, **options: Any) -> None:
        """Run a test with a generation."""

        async def whole() -> None:
            async with self.generation(**options) as generation:
                await test(generation)

        trio.run(whole)

    @contextlib.asynccontextmanager
    async def generation(self, **options: Any) -> AsyncIterator[Generation]:
        """Start one; its processes are gone at the end."""
        lifeline, held = os.pipe()
        settings = Settings(app_dir=str(self.directory), loop="trio", workers=1, **options)
        async with trio.open_nursery() as nursery:
            context = GenerationContext(
                RecyclingPolicy(chance=random.Random(1)),
                make_logger("json", stream=self.log),
                self.tally,
                self._note_change,
                nursery,
            )
            try:
                generation = Generation.start(
                    3, "site_app:app", settings, self._sockets, lifeline, context
                )
                try:
                    yield generation
                finally:
                    generation.kill_workers()
                    with trio.CancelScope(shield=True):
                        await generation.end()
                        nursery.cancel_scope.cancel()
            finally:
                os.close(lifeline)
                os.close(held)

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, is_so: Callable[[], bool]) -> None:
        with trio.fail_after(EVENT_SECONDS):
            while not is_so():
                await self._changed.wait()

    async def ready(self, generation: Generation, count: int = 1) -> list[WorkerProcess]:
        """Have so many workers."""
        for _ in range(count - generation.expected):
            assert generation.fork()
        await self.until(lambda: len(generation.ready) == count)
        return generation.ready
