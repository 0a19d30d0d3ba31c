"""What the two applications have in common: how they are told what to do, and how they tell of it.

Standard library alone: the containers have nothing else.
"""

from __future__ import annotations

import json
import os
import sys
from collections import deque
from collections.abc import Iterator
from urllib.parse import parse_qs

# The last requests that reached the application: a test looks here for one that never should.
served: deque[str] = deque(maxlen=1000)

_PATTERN = bytes(range(256)) * 256
PIECE_BYTES = 65_536


class DeliberateError(Exception):
    """A failure that a test asked for."""


class Query:
    """The query string, with types."""

    def __init__(self, text: str) -> None:
        self._values = parse_qs(text, keep_blank_values=True)

    def text(self, name: str, default: str = "") -> str:
        return self._values.get(name, [default])[0]

    def number(self, name: str, default: int = 0) -> int:
        return int(self.text(name, str(default)))

    def optional_number(self, name: str) -> int | None:
        return int(self.text(name)) if name in self._values else None


def tell(event: str, **fields: object) -> None:
    """Write an event to the log that the bridge writes to as well."""
    sys.stderr.write(json.dumps({"event": f"app: {event}", **fields}) + "\n")
    sys.stderr.flush()


def pieces(count: int) -> Iterator[bytes]:
    """Give `count` bytes of a pattern in which a loss or a repeat shows."""
    whole, rest = divmod(count, PIECE_BYTES)
    for _ in range(whole):
        yield _PATTERN
    if rest:
        yield _PATTERN[:rest]


def surroundings() -> dict[str, object]:
    """What no var of a packet may ever change."""
    return {
        "pid": os.getpid(),
        "working_directory": str(os.getcwd()),  # noqa: PTH109 - as the system says it
        "environment": dict(sorted(os.environ.items())),
        "path": sys.path,
        "modules": sorted(name for name in sys.modules if "intruder" in name),
    }


def to_json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode() + b"\n"
