"""Requests over their time, in a container: the client is told at the deadline, whatever the application does.

One deployment with one worker of two threads serves all of them, so that whatever is not freed is missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from integration.workers import PATIENCE_SECONDS
from integration.wsgi.fetching import fetch
from uwsgibridge.testing import event_with

if TYPE_CHECKING:
    from uwsgibridge.testing import ComposeStack

# What is quick is so on a busy machine, too.
LIMIT_SECONDS = 2.0

# From the deadline to the client. Nginx would end it after a minute.
SOON_SECONDS = 10.0

APPLICATION = """
import asyncio, time

async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    while scope["path"] == "/swallows":
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass
    if scope["path"] == "/delays":
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(600)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"quick"})

def wsgi(environ, start_response):
    what = environ["PATH_INFO"]
    while what == "/loops":
        time.sleep(0.01)
    if what == "/waits":
        time.sleep(600)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"quick"]
"""


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, compose_stack: Any
) -> Iterator[ComposeStack]:
    """What still runs at the end holds up no stop."""
    directory = tmp_path_factory.mktemp("deadlines")
    directory.chmod(0o755)
    (directory / "deadlines.py").write_text(APPLICATION)
    stack: ComposeStack = compose_stack(
        "deadlines:asgi",
        app_dir=directory,
        loop="asyncio",
        serve_args=(
            *("--workers", "1", "--threads", "2", "--mount", "/wsgi=deadlines:wsgi"),
            *("--request-timeout-seconds", str(LIMIT_SECONDS)),
        ),
        graceful_timeout_seconds=PATIENCE_SECONDS,
    )
    yield stack
    assert fetch(f"{stack.url}/quick").body == b"quick"
    # Of a worker that no deadline has ended.
    assert fetch(f"{stack.url}/swallows").seen == 504
    begun = monotonic()
    assert stack.stop() == 0
    assert monotonic() - begun < PATIENCE_SECONDS


# Of those in threads, more than there are.
PATHS = ["/swallows", "/delays", "/wsgi/loops", "/wsgi/waits", "/wsgi/loops"]


@pytest.mark.parametrize("path", PATHS, ids=["swallows", "delays", "loops", "waits", "loops-again"])
def test_client_is_told_at_the_deadline(deployment: ComposeStack, path: str) -> None:
    since, begun = len(deployment.log_events()), monotonic()
    answer = fetch(deployment.url + path)
    seconds = monotonic() - begun
    assert answer.seen == 504
    assert LIMIT_SECONDS <= seconds < LIMIT_SECONDS + SOON_SECONDS
    event = deployment.wait_for_event(
        event_with(event="request took too long", path=path), since=since
    )
    assert event["option"] == "--request-timeout-seconds"
    assert event["outcome"] == "answered 504"
    # The thread is free again, or another is in its place until a new worker serves.
    for _ in range(3):
        assert fetch(f"{deployment.url}/wsgi/quick").body == b"quick"
        assert fetch(f"{deployment.url}/quick").body == b"quick"
    assert deployment.bridge.attrs["RestartCount"] == 0
