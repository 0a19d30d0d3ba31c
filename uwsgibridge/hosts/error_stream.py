"""What an application writes to ``wsgi.errors``: log events, a line each (PEP 3333)."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from uwsgibridge.telemetry.logs import Logger


class ErrorStream:
    """A text stream, shared by all threads of a host; each thread's lines stay whole.

    Args:
        logger: where the lines go.

    Attributes:
        has_unfinished: whether a thread may have begun a line without ending it.
    """

    def __init__(self, logger: Logger) -> None:
        self._log = logger
        self._unfinished = threading.local()
        self.has_unfinished = False

    def write(self, text: str, /) -> int:
        """Log each line that `text` ends; keep the rest for later."""
        *lines, rest = (getattr(self._unfinished, "text", "") + text).split("\n")
        for line in lines:
            self._report(line)
        self._unfinished.text = rest
        if rest:
            self.has_unfinished = True
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:
        """Write one after the other."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Log what was not ended by a line end yet."""
        rest = getattr(self._unfinished, "text", "")
        if rest:
            self._unfinished.text = ""
            self._report(rest)

    def _report(self, line: str) -> None:
        if line.strip():
            self._log.warning("application wrote to wsgi.errors", line=line.rstrip("\r"))
