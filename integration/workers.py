"""Several workers behind an Nginx for tests of processes: their application, and a load of requests."""

from __future__ import annotations

import contextlib
import http.client
import threading
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final, Self
from urllib.parse import urlsplit

import pytest

from uwsgibridge.testing import LocalStack

# Longer than anything takes on a busy machine: what hangs is a failure.
PATIENCE_SECONDS: Final = 60.0

EVERY_SOCKET = pytest.mark.parametrize("kind_of_socket", ["tcp", "unix"])
EVERY_INTERFACE = pytest.mark.parametrize("interface", ["wsgi", "asgi"], ids=["as_wsgi", "as_asgi"])

# A test that asks for /held puts a function `wait` first.
APPLICATION = """
import asyncio
import os

print("loaded by", os.getpid(), flush=True)
ANSWER = f"first {os.getpid()}".encode()
def answer(): return f"VERSION {os.getpid()}".encode()

def wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/held":
        wait()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer()]

async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/held":
        await asyncio.to_thread(wait)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": answer()})
"""


def write(directory: Path, version: str, first: str = "") -> None:
    """Put a version of the application in place, with a statement that it begins with."""
    text = first + APPLICATION.replace("VERSION", version)
    # Renamed into place: a template may be importing it.
    (directory / "new.py").write_text(text)
    (directory / "new.py").rename(directory / "versioned.py")


@contextlib.contextmanager
def workers(
    directory,
    kind_of_socket="unix",
    interface="wsgi",
    *arguments,
    first="",
    environment=None,
    **options,
):
    """Run two workers of version one."""
    write(directory, "one", first)
    with LocalStack(
        f"versioned:{interface}",
        app_dir=directory,
        socket=kind_of_socket,
        interface=interface,
        serve_args=("--workers", "2", "--lifespan", "off", *arguments),
        environment={"PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
        **options,
    ) as stack:
        yield stack


def fetch(url: str) -> tuple[str, int]:
    """Ask once; the version that answered, and the worker."""
    with urllib.request.urlopen(url, timeout=20) as answer:
        version, pid = answer.read().decode().split()
    return version, int(pid)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one request.

    Attributes:
        begun_at: by `time.monotonic`.
        seconds: that it took.
        what: the version that answered, or what went wrong.
    """

    begun_at: float
    seconds: float
    what: str


class Load:
    """Requests over some connections, one after the other on each, and what came of them.

    Args:
        url: where Nginx answers.
        threads: one for each connection.
        pause_seconds: of a connection after each answer. Without one, the load takes the processors from the
            processes whose change it watches.
        body: what each request sends by POST; None is a GET.
    """

    def __init__(
        self,
        url: str,
        threads: int = 8,
        pause_seconds: float = 0.01,
        body: bytes | None = None,
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._url = urlsplit(url)
        self._pause_seconds = pause_seconds
        self._body = body
        self._stop = threading.Event()
        self._first = threading.Barrier(threads + 1)
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    @property
    def seen(self) -> Counter[str]:
        """How often each thing came of a request."""
        return Counter(it.what for it in self.outcomes)

    def stop(self) -> None:
        """Let the last ones be answered; does nothing when that was done."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        assert self._url.hostname is not None
        connection = http.client.HTTPConnection(
            self._url.hostname, self._url.port, timeout=PATIENCE_SECONDS
        )
        with contextlib.closing(connection):
            self._once(connection)
            self._first.wait(PATIENCE_SECONDS)
            while not self._stop.wait(self._pause_seconds):
                self._once(connection)

    def _once(self, connection: http.client.HTTPConnection) -> None:
        begun_at = monotonic()
        try:
            connection.request("GET" if self._body is None else "POST", "/", self._body)
            answer = connection.getresponse()
            body = answer.read().decode()
            what = body.split()[0] if answer.status == 200 else f"status {answer.status}"
        except (http.client.HTTPException, OSError) as error:
            connection.close()
            what = repr(error)
        self.outcomes.append(Outcome(begun_at, monotonic() - begun_at, what))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self._first.wait(PATIENCE_SECONDS)
        return self

    def __exit__(self, *_):
        self.stop()


def distinct_workers(stack, count: int) -> set[int]:
    """Ask until so many workers have answered; bounded, since each answers some of the time."""
    pids: set[int] = set()
    with contextlib.ExitStack() as stack_of_loads:
        lock = threading.Lock()

        def ask() -> None:
            for _ in range(200):
                pid = fetch(stack.url)[1]
                with lock:
                    pids.add(pid)
                    if len(pids) >= count:
                        return

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
            stack_of_loads.callback(thread.join)
    return pids


def one_round(url: str) -> Counter[str]:
    with Load(url, threads=4) as load:
        pass
    return load.seen
