"""Several workers behind an Nginx for tests of processes: their application, and a load of requests."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Self
from urllib.error import HTTPError, URLError

import pytest

from uwsgibridge.testing import LocalStack

EVERY_SOCKET = pytest.mark.parametrize("kind_of_socket", ["tcp", "unix"])
EVERY_INTERFACE = pytest.mark.parametrize("interface", ["wsgi", "asgi"])

APPLICATION = """
import os

print("loaded by", os.getpid(), flush=True)
ANSWER = f"first {os.getpid()}".encode()
def answer(): return f"VERSION {os.getpid()}".encode()

def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer()]

async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": answer()})
"""


def write(directory: Path, version: str) -> None:
    text = APPLICATION.replace("VERSION", version)
    # Renamed into place: a template may be importing it.
    (directory / "new.py").write_text(text)
    (directory / "new.py").rename(directory / "versioned.py")


@contextlib.contextmanager
def workers(directory, kind_of_socket="unix", interface="wsgi", *arguments):
    write(directory, "one")
    with LocalStack(
        f"versioned:{interface}",
        app_dir=directory,
        socket=kind_of_socket,
        interface=interface,
        serve_args=("--workers", "2", "--lifespan", "off", *arguments),
        environment={"PYTHONDONTWRITEBYTECODE": "1"},
    ) as stack:
        yield stack


def fetch(url: str) -> tuple[str, int]:
    """Ask once; the version that answered, and the worker."""
    with urllib.request.urlopen(url, timeout=20) as answer:
        version, pid = answer.read().decode().split()
    return version, int(pid)


class Load:
    """Requests without a pause from some threads, and what came of them."""

    def __init__(self, url: str, threads: int = 8) -> None:
        self.seen: Counter[str] = Counter()
        self._url = url
        self._stop = threading.Event()
        self._first = threading.Barrier(threads + 1)
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def _run(self) -> None:
        self._once()
        self._first.wait()
        while not self._stop.is_set():
            self._once()

    def _once(self) -> None:
        try:
            self.seen[fetch(self._url)[0]] += 1
        except HTTPError as error:
            self.seen[f"status {error.code}"] += 1
            error.close()
        except (URLError, OSError) as error:
            self.seen[repr(error)] += 1

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self._first.wait()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()


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


def wait_gone(pid: int, seconds: float) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def one_round(url: str) -> Counter[str]:
    with Load(url, threads=4) as load:
        pass
    return load.seen
