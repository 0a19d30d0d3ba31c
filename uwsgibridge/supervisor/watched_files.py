"""Watches the files that the options name; a changed file causes a reload."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import trio

from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import SettingsError
from uwsgibridge.system.watching import (
    require_directories,
    require_watchfiles,
    until_watched,
    watch_code,
    watch_touch,
)
from uwsgibridge.telemetry.logs import Logger


def require_watchable(settings: Settings) -> None:
    """Check that what ``--reload`` names can be watched.

    Raises:
        SettingsError: watchfiles is not installed, or a directory does not exist.
    """
    if settings.reload:
        require_watchfiles()
        require_directories(_directories(settings))


async def watch_files(
    settings: Settings, nursery: trio.Nursery, logger: Logger, reload: Callable[[str], object]
) -> None:
    """Begin to watch; changes after the return are noticed.

    Args:
        settings: they name the files.
        nursery: runs the watching tasks.
        logger: where it is logged that code can't be watched.
        reload: called with the reason at a change.
    """
    if settings.touch_reload:
        nursery.start_soon(watch_touch, [Path(it) for it in settings.touch_reload], reload)
    if settings.reload:
        nursery.start_soon(_watch_code, settings, logger, reload)
    await until_watched()


async def _watch_code(settings: Settings, logger: Logger, reload: Callable[[str], object]) -> None:
    try:
        await watch_code(
            _directories(settings), settings.reload_include, settings.reload_exclude, reload
        )
    except (SettingsError, OSError) as error:
        # Serving goes on without the watch.
        logger.error("code is not watched", reason=str(error), option="--reload")  # noqa: TRY400 - the reason says it


def _directories(settings: Settings) -> Sequence[Path]:
    return [Path(it) for it in settings.reload_dir or (settings.app_dir,)]
