"""What a process prints, line by line, with a deadline; reads on in a thread, so that it never blocks."""

from __future__ import annotations

import queue
import re
import threading
from time import monotonic
from types import TracebackType
from typing import IO, Self


class LineReader:
    """Reads a pipe to its end, and closes it."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, name="lines", daemon=True)
        self._seen: list[str] = []

    def wait_for(self, pattern: str, timeout_seconds: float) -> re.Match[str]:
        """Wait for a line that has the pattern in it; lines before it are passed over."""
        deadline = monotonic() + timeout_seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, f"no {pattern!r} in: {''.join(self._seen)}"
            self._seen.append(line)
            if found := re.search(pattern, line):
                return found

    def text(self) -> str:
        """Give all that was printed; after its end."""
        while (line := self._lines.get_nowait()) is not None:
            self._seen.append(line)
        return "".join(self._seen)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The process has to have ended: `with` blocks are left in the reverse order.
        self._thread.join(10)
        assert not self._thread.is_alive(), "the pipe is still open"
        self._pipe.close()

    def _read(self) -> None:
        for line in self._pipe:
            self._lines.put(line.decode("utf-8", "replace"))
        self._lines.put(None)
