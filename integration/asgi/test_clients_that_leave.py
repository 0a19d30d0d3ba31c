"""Clients that leave while a framework answers: the request ends soon, and its work at the end is done.

What a framework does is its own affair as far as it is told the same as everywhere: an ASGI server
before version 2.4 of the specification, which they are all written for (docs/asgi.md, "Messages").
All of it runs as processes of this machine, and for some once more in the project's containers.
"""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests
from websockets.sync.client import connect

from integration.asgi.conftest import APPS, Kind, assert_clean
from uwsgibridge.testing import event_with

if TYPE_CHECKING:
    from integration.asgi.conftest import Stack

PATIENCE_SECONDS = 10.0

# From the client's leaving to the end of the call of the application.
SOON_SECONDS = 2.0

SITES = {
    "asyncio": ("starlette", "fastapi", "django", "quart", "litestar"),
    "trio": ("starlette", "fastapi", "quart-trio"),
}
# What the bridge's image has, so that none is built for this.
SITES_IN_COMPOSE = ("starlette", "fastapi")
KINDS = [
    Kind("asyncio", "unix"),
    Kind("uvloop", "tcp"),
    Kind("trio", "unix"),
    Kind("asyncio", "tcp", place="compose"),
    Kind("trio", "unix", place="compose"),
]


def sites_of(kind: Kind) -> tuple[str, ...]:
    """What a kind can run."""
    if kind.place == "compose":
        return SITES_IN_COMPOSE
    return SITES["trio" if kind.loop == "trio" else "asyncio"]


PLACES = [(kind, name) for kind in KINDS for name in sites_of(kind)]

# Where the body of a request is passed on as it arrives.
UNBUFFERED = """
location ~ /upload/ {
    uwsgi_request_buffering off;
    uwsgi_pass $uwsgibridge_upstream;
}
"""

numbers = itertools.count()

on_each_site = pytest.mark.parametrize(
    ("kind", "name"),
    PLACES,
    ids=[f"{kind.loop}-{name}-{kind.place}" for kind, name in PLACES],
    indirect=["kind"],
    scope="session",
)
on_each_kind = pytest.mark.parametrize(
    "kind",
    KINDS,
    ids=[f"{kind.loop}-{kind.place}" for kind in KINDS],
    indirect=True,
    scope="session",
)


@pytest.fixture(scope="session")
def sites(kind: Kind, serve: Callable[..., Stack]) -> Iterator[Stack]:
    """All sites that a loop can run, side by side."""
    names = (*sites_of(kind), "wsgi")
    modules = {name: f"{APPS}.leaving.{name.replace('-', '_')}_site" for name in names}
    mounts = [("--mount", f"/{name}={module}:app") for name, module in modules.items()]
    stack = serve(
        "behaviours:application",
        kind,
        serve_args=("--threads", "2", *itertools.chain(*mounts)),
        nginx_directives=UNBUFFERED,
    )
    yield stack
    assert stack.stop() == 0
    # Of trio's about generators that frameworks do not close.
    assert_clean(stack, but="ResourceWarning")
    levels = {
        event.get("level")
        for event in stack.log_events()
        # In a container, the bridge listens at all addresses, and says so. Frameworks log failures of their own.
        if event.get("option") != "--allow-from" and "logger" not in event
    }
    assert not levels & {"error", "warning"}, stack.bridge_log


@pytest.fixture
def key() -> str:
    """What no other test has in its paths."""
    return f"key-{next(numbers)}"


@contextmanager
def client_of(stack: Stack, path: str, *, body_bytes: int = 0) -> Iterator[socket.socket]:
    """Ask for something, with the head of a request that has so many bytes of body."""
    where = urlsplit(stack.url)
    method = "POST" if body_bytes else "GET"
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: {body_bytes}\r\n\r\n"
    )
    with socket.create_connection((where.hostname, where.port), PATIENCE_SECONDS) as client:
        client.sendall(head.encode())
        yield client


def wait_over(stack: Stack, path: str) -> None:
    stack.wait_for_event(event_with(event="app", path=path, told="over"))


def assert_ends_soon(stack: Stack, path: str, *works: str) -> None:
    left_at = time.monotonic()
    wait_over(stack, path)
    assert time.monotonic() - left_at < SOON_SECONDS
    told = [event["told"] for event in stack.log_events() if event.get("path") == path]
    assert [told.count(work) for work in works] == [1] * len(works), told


def release(stack: Stack, name: str, key: str) -> None:
    """Let what waits in a site go on, and have Python collect what nobody refers to."""
    answer = requests.get(f"{stack.url}/{name}/release/{key}", timeout=PATIENCE_SECONDS)
    assert answer.status_code == 204


def works_of(name: str) -> tuple[str, ...]:
    return ("work done", "dependency ended") if name == "fastapi" else ("work done",)


@on_each_site
@pytest.mark.parametrize("case", ["idle", "busy"])
def test_a_stream_ends_when_its_client_leaves(sites: Stack, name: str, key: str, case: str) -> None:
    path = f"/{name}/{case}/{key}"
    with client_of(sites, path) as client:
        received = b""
        while b"data: " not in received:
            received += client.recv(65_536)
    assert_ends_soon(sites, path, *works_of(name))
    # A generator that was not waited for at that moment is left to Python, which closes what it collects.
    release(sites, name, key)
    sites.wait_for_event(event_with(event="app", path=path, told="closed"))


@on_each_site
def test_an_upload_ends_when_its_client_leaves(sites: Stack, name: str, key: str) -> None:
    path = f"/{name}/upload/{key}"
    with client_of(sites, path, body_bytes=1_000_000) as client:
        client.sendall(bytes(100_000))
        sites.wait_for_event(event_with(event="app", path=path, told="called"))
    # Django reads the body before it calls anything of the site.
    works = () if name == "django" else works_of(name)
    assert_ends_soon(sites, path, *works)


@on_each_site
def test_an_answer_that_comes_too_late(sites: Stack, name: str, key: str) -> None:
    """What belongs to an answer is done, although nobody hears the answer."""
    path = f"/{name}/late/{key}"
    with client_of(sites, path):
        sites.wait_for_event(event_with(event="app", path=path, told="begun"))
    if name not in {"django", "quart", "quart-trio"}:  # these cancel the view
        release(sites, name, key)
    assert_ends_soon(sites, path, *works_of(name))


@on_each_site
@pytest.mark.parametrize("way", ["closes", "vanishes"])
def test_a_handler_that_expects_no_end_fails_silently(
    sites: Stack, name: str, key: str, way: str
) -> None:
    """Its framework raises what it has for that; no word of it is in the log."""
    if name == "django":
        pytest.skip("the framework has none")
    path = f"/{name}/chat/{key}"
    with connect(f"{sites.url}{path}".replace("http", "ws"), proxy=None) as peer:
        peer.send("one")
        assert peer.recv() == "one"
        if way == "closes":
            peer.close(1001)
        else:
            peer.socket.shutdown(socket.SHUT_RDWR)
    wait_over(sites, path)
    told = [event for event in sites.log_events() if event.get("path") == path]
    assert [event["told"] for event in told] == ["called", "over"], told


@on_each_kind
@pytest.mark.parametrize("item", ["empty", "full"])
def test_a_wsgi_generator_is_closed_when_its_client_leaves(
    sites: Stack, key: str, item: str
) -> None:
    """Each item is a point at which it is closed, so that clients that leave hold no thread."""
    # Twice as many as there are threads.
    paths = [f"/wsgi/{item}/{key}-{number}" for number in range(4)]
    for path in paths:
        with client_of(sites, path) as client:
            sites.wait_for_event(event_with(event="app", path=path, told="begun"))
            assert client.recv(15) == b"HTTP/1.1 200 OK"
        left_at = time.monotonic()
        sites.wait_for_event(event_with(event="app", path=path, told="closed"))
        assert time.monotonic() - left_at < SOON_SECONDS
