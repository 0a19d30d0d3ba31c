"""What is wrong with the code of a configuration file of gunicorn."""

from __future__ import annotations

from typing import Any

from uwsgibridge.migration.errors import ConfigurationError


class FileError(ConfigurationError):
    """The code of a configuration file has failed.

    Attributes:
        traceback_text: of the failure, without lines of this server.
    """

    def __init__(self, message: str, traceback_text: str) -> None:
        super().__init__(message)
        self.traceback_text = traceback_text

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.traceback_text)
