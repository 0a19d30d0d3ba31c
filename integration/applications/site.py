"""An application that runs behind Nginx, as its tests see it: a URL, and what the supervisor knows of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from uwsgibridge.control.client import ask

if TYPE_CHECKING:
    from integration.applications.sink import Sink
    from uwsgibridge.testing import LocalStack

# Loading pandas and the like takes its time on a busy machine: what takes longer hangs.
PATIENCE_SECONDS: Final = 90.0

_LOOK_AGAIN_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Kind:
    """What an application runs on, and how Nginx reaches it."""

    loop: Literal["asyncio", "uvloop", "trio", "threads"]
    socket: Literal["tcp", "unix"]

    def __str__(self) -> str:
        return f"{self.loop}-{self.socket}"


ON_THREADS: Final = (Kind("threads", "unix"),)
ON_ASYNCIO: Final = (Kind("asyncio", "unix"), Kind("uvloop", "tcp"))
ON_EVERY_LOOP: Final = (*ON_ASYNCIO, Kind("trio", "unix"))


@dataclass(frozen=True, slots=True)
class Site:
    """An application that runs.

    Attributes:
        stack: the bridge and its Nginx.
        kind: what it runs on.
        directory: where it may keep files, and finds those that its tests have written.
        control: the supervisor's control socket.
        sink: where it may send telemetry, at SINK_PORT of this machine.
    """

    stack: LocalStack
    kind: Kind
    directory: Path
    control: Path
    sink: Sink

    @property
    def url(self) -> str:
        """Where Nginx answers, without a slash at the end."""
        return self.stack.url

    @property
    def websocket_url(self) -> str:
        """The same, for WebSockets."""
        return self.stack.url.replace("http", "ws", 1)

    def workers(self) -> list[dict[str, Any]]:
        """List the workers as `ctl status` shows them."""
        found: list[dict[str, Any]] = ask(self.control, "status")["workers"]
        return found

    def in_flight(self) -> int:
        """Count the requests that the application holds; WebSockets are among them."""
        return sum(it["in_flight"] or 0 for it in self.workers())

    def wait(self, what: Callable[[], bool], *, seconds: float, why: str) -> float:
        """Wait until something is true.

        Returns:
            The seconds that it took.

        Raises:
            AssertionError: it took longer; with `why`.
        """
        begun_at = time.monotonic()
        while not what():
            passed = time.monotonic() - begun_at
            assert passed < seconds, f"{why} within {seconds:g} s; there is {self.workers()}"
            time.sleep(_LOOK_AGAIN_SECONDS)
        return time.monotonic() - begun_at
