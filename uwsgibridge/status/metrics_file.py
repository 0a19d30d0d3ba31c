"""Writes the figures to ``--metrics-file``, for the textfile collector of node_exporter."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

import trio

from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import SettingsError
from uwsgibridge.figures.text import TextFormat, render
from uwsgibridge.status.sources import Sources, families_or_none
from uwsgibridge.system.reasons import why_not_made
from uwsgibridge.system.safe_path import Place, UnsafePathError, open_place
from uwsgibridge.telemetry.logs import Logger

# node_exporter runs as a user of its own.
_MODE: Final = 0o644


def require_writable(settings: Settings) -> None:
    """Check, at a start, that the file can be written.

    Raises:
        SettingsError: it can't be; the message says why.
    """
    path = Path(settings.metrics_file).absolute()
    option = f"--metrics-file {settings.metrics_file}"
    try:
        with open_place(path) as place:
            if place.exposed is not None:
                raise SettingsError(
                    f"{option}: {place.exposed}, and root writes this file; put it in a directory that only root can "
                    "write, or give --user"
                )
            os.unlink(_make(place, b""), dir_fd=place.directory)
    except SettingsError:
        raise
    except UnsafePathError as error:
        raise SettingsError(f"{option}: {error}") from None
    except OSError as error:
        why = why_not_made(error, path.parent, "write the file", path.name)
        raise SettingsError(f"{option}: {why}") from None
    except ValueError:
        raise SettingsError(
            f"--metrics-file {settings.metrics_file!r} is no path that a file can have"
        ) from None
    if path.is_dir():
        raise SettingsError(f"{option}: it is a directory")


class MetricsFile:
    """The file with the figures of one service; it is replaced as a whole, so that a reader finds all or nothing.

    Args:
        sources: of the figures.
        settings: name the file, the names of the figures, and how often it is written.
        logger: where a failure is logged, once until it works again.
    """

    def __init__(self, sources: Sources, settings: Settings, logger: Logger) -> None:
        self._sources = sources
        self._path = Path(settings.metrics_file).absolute()
        self._seconds = settings.metrics_file_seconds
        self._names = settings.metrics_names
        self._log = logger
        self._has_failed = False

    async def run(self) -> None:
        """Write the file again and again until cancelled."""
        while True:
            await self.write()
            await trio.sleep(self._seconds)

    def remove(self) -> None:
        """Remove the file, at a stop: the collector would go on to read figures of what is gone."""
        with contextlib.suppress(OSError, UnsafePathError), open_place(self._path) as place:
            os.unlink(place.name, dir_fd=place.directory)

    async def write(self) -> None:
        """Write the file once."""
        families = await families_or_none(self._sources, self._names, self._log)
        if families is None:
            return
        text = render(families, TextFormat.PROMETHEUS)  # the collector reads no other
        try:
            self._replace(text.encode())
        except (OSError, UnsafePathError) as error:
            if not self._has_failed:
                reason = getattr(error, "strerror", None) or str(error)
                self._log.error(
                    "metrics file can't be written", path=str(self._path), reason=reason
                )
            self._has_failed = True
        else:
            if self._has_failed:
                self._log.info("metrics file is written again", path=str(self._path))
            self._has_failed = False

    def _replace(self, data: bytes) -> None:
        with open_place(self._path) as place:
            name = _make(place, data)
            try:
                os.rename(name, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory)
            except OSError:
                os.unlink(name, dir_fd=place.directory)
                raise


def _make(place: Place, data: bytes) -> str:
    """Make a file beside the one that is to be replaced, and give its name, which the collector does not read."""
    name = f".{place.name}.part"
    with contextlib.suppress(FileNotFoundError):  # of a process that was killed while it wrote
        os.unlink(name, dir_fd=place.directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, _MODE, dir_fd=place.directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except OSError:
        os.unlink(name, dir_fd=place.directory)
        raise
    return name
