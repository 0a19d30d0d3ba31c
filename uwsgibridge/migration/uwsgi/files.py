"""Reads the files that a configuration names, each within its limits."""

from __future__ import annotations

import os
import stat
from typing import Final

from uwsgibridge.config.reading import read_descriptor
from uwsgibridge.migration.errors import ConfigurationError
from uwsgibridge.migration.plan import Place
from uwsgibridge.migration.uwsgi.limits import MOST_BYTES, MOST_FILE_BYTES, MOST_FILES, PIPE_SECONDS

# uWSGI reads these as well (uwsgi_setup_schemes in its core/io.c).
_SCHEMES: Final = (
    "emperor://", "http://", "data://", "sym://", "section://", "fd://", "exec://", "call://", "callint://",
)  # fmt: skip


class Files:
    """Reads files, and counts them.

    Args:
        start: the directory that relative paths begin at. uWSGI's is the directory of the start for all of them,
            those in an included file too.
    """

    def __init__(self, start: str) -> None:
        self.start = start
        self._count = 0
        self._bytes = 0

    def path(self, name: str) -> str:
        """Make a path absolute, as far as the start directory is."""
        return os.path.join(self.start, name)  # noqa: PTH118 - its text goes on

    def check(self, name: str, place: Place) -> None:
        """Refuse what is no file's name.

        Raises:
            ConfigurationError: it is none.
        """
        if name.startswith(_SCHEMES):
            scheme = name.partition(":")[0]
            raise ConfigurationError(
                f"{place}: {name!r} is no file; what uWSGI gets from {scheme}:// has to stand in one"
            )

    def read(self, name: str, place: Place) -> bytes:
        """Read a file, a pipe, or standard input (``-``).

        Args:
            name: as it is written.
            place: where it is written, for errors.

        Raises:
            ConfigurationError: it can't be read, is too large, or is no text.
        """
        self.check(name, place)
        self._count += 1
        if self._count > MOST_FILES:
            raise ConfigurationError(
                f"{place}: {name!r} is one file too many; {MOST_FILES} are read"
            )
        data = self._read(name, place)
        self._bytes += len(data)
        if len(data) > MOST_FILE_BYTES or self._bytes > MOST_BYTES:
            limit = MOST_FILE_BYTES if len(data) > MOST_FILE_BYTES else MOST_BYTES
            raise ConfigurationError(
                f"{place}: {name!r} is too large; {limit} bytes of configuration are read at the most"
            )
        if b"\0" in data:
            raise ConfigurationError(f"{place}: {name!r} is no text: it has a zero byte")
        return data

    def _read(self, name: str, place: Place) -> bytes:
        if not name:
            raise ConfigurationError(f"{place}: a file's name is missing")
        try:
            if name == "-":
                return _read_descriptor(0)
            # Opening a pipe that nobody writes to would wait for ever.
            descriptor = os.open(self.path(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                return _read_descriptor(descriptor)
            finally:
                os.close(descriptor)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise ConfigurationError(
                f"{place}: {name!r} can't be read: {reason}{self._hint(name)}"
            ) from None

    def _hint(self, name: str) -> str:
        if "$(" in name or "%(" in name or "@(" in name:
            return "; uWSGI opens it before it replaces placeholders, so that the name has to be written out"
        if not name.startswith("/"):
            return f"; relative paths begin at {self.start}, where the start is"
        return ""


def _read_descriptor(descriptor: int) -> bytes:
    """Read one byte more than a file may have, so that the caller sees that there are more."""
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        raise OSError(0, "it is neither a file nor a pipe")
    return read_descriptor(descriptor, MOST_FILE_BYTES + 1, seconds=PIPE_SECONDS)
