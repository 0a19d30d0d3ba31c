"""What a supervisor and its template say to each other, one JSON text in one datagram.

The template and the workers that it forks share one end of the socket pair, and a datagram is never
mixed with another.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Final

from uwsgibridge.config.settings import Settings

# A traceback fits; what is longer is cut by the sender.
MAX_BYTES: Final = 65_536

FORK: Final = b"fork"
STOP: Final = b"stop"


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What a template is to run.

    Attributes:
        app_name: the application as ``module:attribute``, if any beside the mounts.
        settings: with ``fd://`` addresses, which the template inherits.
        lifeline: a descriptor whose end of file says that the supervisor is gone.
    """

    app_name: str | None
    settings: Settings
    lifeline: int

    def encode(self) -> bytes:
        """Write it for `decode`."""
        return json.dumps(
            {
                "app_name": self.app_name,
                "settings": dataclasses.asdict(self.settings),
                "lifeline": self.lifeline,
            }
        ).encode()

    @staticmethod
    def decode(data: bytes) -> Blueprint:
        """Read what `encode` wrote."""
        raw = json.loads(data)
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in raw["settings"].items()
        }
        return Blueprint(raw["app_name"], Settings(**values), raw["lifeline"])


@dataclass(frozen=True, slots=True)
class Report:
    """Something that happened to a worker, or to the template.

    Attributes:
        event: ``forked``, ``ready`` or ``exited``.
        pid: of the worker.
        status: of `os.waitstatus_to_exitcode`, for ``exited``: negative is a signal.
    """

    event: str
    pid: int
    status: int = 0

    def encode(self) -> bytes:
        """Write it for `decode`."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @staticmethod
    def decode(data: bytes) -> Report:
        """Read what `encode` wrote."""
        fields: dict[str, Any] = json.loads(data)
        return Report(**fields)
