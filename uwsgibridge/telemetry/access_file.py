"""The access log's own file, which is opened anew at SIGUSR1."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from uwsgibridge.telemetry.appending import open_to_append
from uwsgibridge.telemetry.line_stream import BufferedLines
from uwsgibridge.telemetry.outlet import Outlet

OPTION: Final = "--access-log-file"


class AccessFile(BufferedLines):
    """Writes whole lines to the end of a file, and never raises.

    Args:
        path: of the file, absolute; a missing file is made.
        buffer_bytes: how much is kept where the file is a pipe whose reader does not keep up.

    Raises:
        LogFileError: on construction, where the file can't be opened.
    """

    def __init__(self, path: Path, buffer_bytes: int) -> None:
        self._path = path
        self._descriptor = open_to_append(OPTION, path)
        super().__init__(Outlet(self._descriptor))
        self.buffer.buffer_bytes = buffer_bytes

    def reopen(self) -> None:
        """Write to the file that has this path now. Safe in a signal handler.

        Raises:
            LogFileError: the file can't be opened. The old one stays open.
        """
        descriptor = open_to_append(OPTION, self._path)
        os.dup2(descriptor, self._descriptor, inheritable=False)
        os.close(descriptor)
        self.buffer.look_again()


_open: list[AccessFile] = []


def open_access_file(path: Path, buffer_bytes: int) -> AccessFile:
    """Open the access log's file for this process; the arguments are those of `AccessFile`, and so is what is raised."""
    file = AccessFile(path, buffer_bytes)
    _open.append(file)
    return file


def reopen_access_file() -> None:
    """Open the access log's file anew, if this process has one; raises as `AccessFile.reopen`."""
    for file in _open:
        file.reopen()
