"""Reads the log of one Compose service, over all its containers and runs."""

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

    Owns connections to the engine. Make it before the service is started. One thread iterates; any thread may
    close it.

    Args:
        project: the name of the Compose project.
        service: the name of the service in it.
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
            # OSError: the engine went away.
            with contextlib.suppress(docker.errors.NotFound, OSError):
                container = self._client.containers.get(event["id"])
                self._current = container.logs(stream=True, follow=True, since=shown_until)
                if self._closed:
                    break
                # This ends with the run of the container; the next run is read later.
                yield from _split(self._current)
                shown_until = time.time()

    def close(self) -> None:
        """End the iteration, and close the connections."""
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
