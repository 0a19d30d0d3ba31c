"""A headless Chromium, driven over the DevTools protocol.

Waiting is done in the page, by its own MutationObserver: nothing here polls or sleeps.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from websockets.sync.client import ClientConnection, connect

from integration.line_reader import LineReader

PATIENCE_SECONDS: Final = 30.0

_ARGUMENTS: Final = (
    "--headless",
    "--no-sandbox",  # tests may run as root, in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "about:blank",
)

# To be filled with an expression and the milliseconds that it has to become true.
_UNTIL: Final = """new Promise((resolve, reject) => {
  const see = () => {
    const found = %s;
    if (found) {
      observer.disconnect();
      resolve(found);
    }
  };
  const observer = new MutationObserver(see);
  observer.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
  setTimeout(() => reject(new Error(`not within the time: ${document.body.innerText}`)), %d);
  see();
})"""


@contextmanager
def open_chromium(program: str) -> Iterator[ClientConnection]:
    """Start a Chromium with a profile of its own, and end it with the block; for `open_page`."""
    with ExitStack() as undo:
        # Its processes may still be writing there when the first of them has ended.
        profile = undo.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        process = subprocess.Popen(
            (program, f"--user-data-dir={profile}", *_ARGUMENTS),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "HOME": profile},
        )
        assert process.stderr is not None
        lines = undo.enter_context(LineReader(process.stderr))
        undo.callback(_end, process)
        address = lines.wait_for(r"DevTools listening on (ws://\S+)", PATIENCE_SECONDS)[1]
        yield undo.enter_context(open_websocket(address, max_size=None))


@contextmanager
def open_page(chromium: ClientConnection, url: str) -> Iterator[Page]:
    """Open a page in a tab of its own, and close that with the block."""
    with ExitStack() as undo:
        browser = _Session(chromium, None)
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        undo.callback(browser.call, "Target.closeTarget", targetId=target)
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        yield Page(_Session(chromium, attached["sessionId"]), url)


class Page:
    """A page that is loaded."""

    def __init__(self, session: _Session, url: str) -> None:
        self._session = session
        for domain in ("Page", "Runtime", "Log"):
            session.call(f"{domain}.enable")
        session.call("Page.setLifecycleEventsEnabled", enabled=True)
        loader = session.call("Page.navigate", url=url)["loaderId"]
        session.wait_for_event("Page.lifecycleEvent", name="load", loaderId=loader)

    @property
    def errors(self) -> list[str]:
        """What its console has to complain about so far, violations of its policy among it."""
        self.evaluate("null")  # what has happened before is told before the answer
        return [error for event in self._session.events if (error := _error_of(event))]

    def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript; what it promises is waited for."""
        answer = self._session.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]["exception"]
        return answer["result"].get("value")

    def until(self, condition: str) -> Any:
        """Wait until an expression over the page's elements is true; its value."""
        return self.evaluate(_UNTIL % (condition, PATIENCE_SECONDS * 1000))


class _Session:
    """Calls to one target, and the events that it has told of."""

    def __init__(self, connection: ClientConnection, identifier: str | None) -> None:
        self.events: list[dict[str, Any]] = []
        self._connection = connection
        self._identifier = identifier
        self._calls = 0

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._calls += 1
        request = {"id": self._calls, "method": method, "params": params}
        if self._identifier is not None:
            request["sessionId"] = self._identifier
        self._connection.send(json.dumps(request))
        while True:
            message = self._next()
            if message.get("id") == self._calls:
                assert "error" not in message, message["error"]
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def wait_for_event(self, method: str, **params: str) -> None:
        """Wait for one with these parameters; it may have come already."""
        seen = 0
        while True:
            for event in self.events[seen:]:
                if event["method"] == method and event["params"].items() >= params.items():
                    return
            seen = len(self.events)
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        while True:
            # Longer than what is waited for in the page: that says more when it fails.
            message: dict[str, Any] = json.loads(self._connection.recv(PATIENCE_SECONDS + 5))
            if message.get("sessionId") == self._identifier:
                return message


def _error_of(event: dict[str, Any]) -> str:
    match event.get("method"), event.get("params"):
        case "Runtime.exceptionThrown", {"exceptionDetails": details}:
            return str(details)
        case "Runtime.consoleAPICalled", {"type": "error" | "assert" as kind, "args": args}:
            return f"{kind}: {args}"
        case "Log.entryAdded", {"entry": {"level": "error", "text": str(text)}}:
            return text
    return ""


@contextmanager
def open_websocket(address: str, **options: Any) -> Iterator[ClientConnection]:
    """Connect to a WebSocket of this machine, whatever proxy the environment names."""
    where = urlsplit(address)
    assert where.hostname
    # Closed by the connection.
    plain = socket.create_connection((where.hostname, where.port or 80), timeout=PATIENCE_SECONDS)
    with connect(address, sock=plain, open_timeout=PATIENCE_SECONDS, **options) as connection:
        yield connection


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
