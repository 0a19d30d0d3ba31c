"""Keeps the directory of ``--prometheus-multiproc-dir`` small: folds what ended processes have left there."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Final

import trio

from uwsgibridge.multiproc.ended import FilesOfEnded
from uwsgibridge.supervisor.fleet import Fleet

# How soon one turn may follow another one, so that the ends of many workers are one turn's work.
_PAUSE_SECONDS: Final = 0.2

# How long to wait where a scrape must not be disturbed, which takes milliseconds unless its process stands still.
_HELD_OFF_SECONDS: Final = 1.0

# How often to look for what processes have left that the application has started.
_LOOK_SECONDS: Final = 10.0


class MultiprocKeeper:
    """Folds the files of ended processes, as soon as one has ended.

    Args:
        directory: a descriptor of the directory, which the caller closes.
        fleet: the workers.
    """

    def __init__(self, directory: int, fleet: Fleet) -> None:
        self._directory = directory
        self._fleet = fleet
        self._last_reason = ""

    async def run(self) -> None:
        """Fold until cancelled."""
        while True:
            with self._telling_failure():
                files = FilesOfEnded(
                    self._directory, self._fleet.settings.prometheus_multiproc_gauges
                )
                with contextlib.closing(files):
                    await self._fold_again_and_again(files)
            await trio.sleep(_LOOK_SECONDS)

    async def _fold_again_and_again(self, files: FilesOfEnded) -> None:
        while True:
            living = self._living()
            # In a thread: the disk may be slow.
            turn = await trio.to_thread.run_sync(files.fold, living)
            self._last_reason = ""
            for one in turn.damaged:
                self._fleet.log.error(
                    "a file of prometheus_client is damaged: its figures are left out",
                    file=one.name,
                    kept_as=one.kept_as,
                    reason=one.reason,
                )
            await trio.sleep(_HELD_OFF_SECONDS if turn.was_held_off else _PAUSE_SECONDS)
            if not (turn.has_more or turn.was_held_off):
                with trio.move_on_after(_LOOK_SECONDS):
                    await self._fleet.wait_for(functools.partial(self._has_ended, living))

    @contextlib.contextmanager
    def _telling_failure(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if str(error) != self._last_reason:
                self._fleet.log.error(  # noqa: TRY400 - the reason says it
                    "files of prometheus_client can't be folded",
                    reason=str(error),
                    option="--prometheus-multiproc-dir",
                )
            self._last_reason = str(error)

    def _living(self) -> frozenset[int]:
        generations = self._fleet.generations
        return frozenset(pid for one in generations for pid in (one.template_pid, *one.workers))

    def _has_ended(self, any_of: frozenset[int]) -> bool:
        return not any_of <= self._living()
