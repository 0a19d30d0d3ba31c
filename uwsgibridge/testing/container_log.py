"""The log of one Compose service, over all the containers and runs that it has."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import docker

if TYPE_CHECKING:
    from docker.types import CancellableStream


class ServiceLog:
    """Iterate over the lines that a service writes, from its first start until `close`.

    Owns connections to the engine. Made before the service is started; iterated in one thread, closed
    from any.

    Args:
        project: of Compose.
        service: its name there.
    """

    def __init__(self, project: str, service: str) -> None:
        self._client = docker.from_env()
        self._starts: CancellableStream[dict[str, Any]] = self._client.events(
            decode=True,
            filters={
                "type": "container",
                "event": "start",
                "label": [
                    f"com.docker.compose.project={project}",
                    f"com.docker.compose.service={service}",
                    "com.docker.compose.oneoff=False",  # see `ComposeStack`
                ],
            },
        )
        self._current: CancellableStream[bytes] | None = None
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        shown_until: float | None = None
        for event in self._starts:
            # An OSError is what is left of an engine that went away.
            with contextlib.suppress(docker.errors.NotFound, OSError):
                container = self._client.containers.get(event["id"])
                self._current = container.logs(stream=True, follow=True, since=shown_until)
                if self._closed:
                    break
                # It ends with this run of the container; what it writes in the next is later.
                yield from _split(self._current)
                shown_until = time.time()

    def close(self) -> None:
        """End the iteration, and give the connections back."""
        self._closed = True
        for stream in (self._current, self._starts):
            if stream is not None:
                stream.close()
        self._client.close()


def _split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest
