"""A gate in code under test: whoever comes to it waits there until the test lets it go on."""

from __future__ import annotations

import os
import secrets
import select
from pathlib import Path
from typing import Final, Self

# More requests than ever wait at a gate.
_ALL: Final = 64


class Gate:
    """Made of two pipes with names, in a directory; a context manager that opens and removes it.

    Attributes:
        code: a statement of Python that waits.
    """

    def __init__(self, directory: Path) -> None:
        name = f"gate-{secrets.token_hex(4)}"
        self._arrivals_path = directory / f"{name}-arrivals"
        self._passes_path = directory / f"{name}-passes"
        self.code = (
            f"open({str(self._arrivals_path)!r}, 'wb', buffering=0).write(b'.'); "
            f"open({str(self._passes_path)!r}, 'rb', buffering=0).read(1)"
        )

    def wait_arrival(self, seconds: float = 20.0) -> None:
        """Wait until one more has come."""
        readable, _, _ = select.select([self._arrivals], [], [], seconds)
        assert readable, f"nobody has come within {seconds:g} s"
        os.read(self._arrivals, 1)

    def open(self) -> None:
        """Let all go on, those that are still to come, too."""
        os.write(self._passes, b"." * _ALL)

    def __enter__(self) -> Self:
        for path in (self._arrivals_path, self._passes_path):
            os.mkfifo(path)
        # Both ways, as Linux allows: opening waits for nobody, here and at the other end.
        self._arrivals = os.open(self._arrivals_path, os.O_RDWR)
        self._passes = os.open(self._passes_path, os.O_RDWR)
        return self

    def __exit__(self, *_):
        self.open()
        os.close(self._arrivals)
        os.close(self._passes)
